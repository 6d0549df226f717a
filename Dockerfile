# VAR on a CPU: docker build -t var . && docker run -it -v "$PWD/results:/var/lib/VAR/results" var
FROM python:3.12-slim
WORKDIR /var/lib/VAR
COPY requirements.txt ./
COPY reproduce/setup.sh reproduce/
RUN bash -ec 'source reproduce/setup.sh requirements.txt cpu'
COPY . .
ENV PATH=/var/lib/VAR/.venv/bin:$PATH
CMD ["bash", "reproduce/demo.sh"]
