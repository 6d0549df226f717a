"""A ``python`` that runs each program in a fork of a process that has loaded libraries already.

``warm_python(folder, environment)`` starts that process. The programs that stand for ``python`` give it
their arguments, folder, environment and streams, and end with the exit code of the fork.
"""

import contextlib
import fcntl
import functools
import gc
import importlib
import itertools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

# torch comes first: each of the two brings an LLVM, and the other order aborts Python.
LIBRARIES = (
    *("torchvision", "tensorflow", "pandas", "scipy.stats", "matplotlib.pyplot", "tqdm"),
    *("h5py", "snakemake.cli"),
)

PROGRAM = '''#!{python} -IS
"""Let the process at the socket run Python with these arguments."""

import json, os, socket, sys

words = {words} + sys.argv[1:]
first = next((word for word in words if word not in ("-P", "-u")), "-c")
if first.startswith("-") and first not in ("-", "-m"):
    os.execv({python!r}, [{python!r}, *words])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
closed_at_end, _ = os.pipe()
socket.send_fds(server, [b" "], [0, 1, 2, closed_at_end])
job = dict(words=words, folder=os.getcwd(), environment=dict(os.environ), program=sys.argv[0])
server.sendall(json.dumps(job).encode())
server.shutdown(socket.SHUT_WR)
answer = server.recv(8)
sys.exit(int(answer) if answer else "this program was killed, or its libraries failed: see {log}")
'''


@dataclass(frozen=True)
class WarmPython:
    """Process that runs programs in forks, in a folder that has its socket and its own complaints."""

    folder: Path

    @property
    def address(self) -> Path:
        return self.folder / "socket"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def program(self) -> str:
        """Path of the program that stands for ``python``; its folder has no other program."""
        return str(self.folder / "programs" / "python")

    def write(self, path: Path, *words: object) -> None:
        """Write a program at ``path`` that stands for ``python *words``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        places = {"address": str(self.address), "log": self.log}
        given = [str(word) for word in words]
        path.write_text(PROGRAM.format(python=sys.executable, words=given, **places))
        path.chmod(0o755)


@contextlib.contextmanager
def warm_python(
    folder: Path, environment: Mapping[str, str], libraries: Sequence[str] = LIBRARIES
) -> Iterator[WarmPython]:
    """Start the process with its files in ``folder``; it ends with the context or with its caller."""
    warm = WarmPython(folder)
    warm.write(Path(warm.program))
    with socket.socket(socket.AF_UNIX) as listener, warm.log.open("w") as log:
        listener.bind(str(warm.address))
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(listener.fileno()), *libraries],
            env={name: value for name, value in environment.items() if name != "PYTHONPATH"},
            stdin=subprocess.PIPE,
            stderr=log,
            pass_fds=[listener.fileno()],
        )
    with process:
        yield warm


def serve(listener: socket.socket) -> socket.socket | None:
    """Return the connection of the next program in a new fork; None after the end of the input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            return connection
        connection.close()
    return None


def receive(connection: socket.socket) -> dict:
    """Take over the streams of the program; return its arguments, folder and environment."""
    _, [*streams, closed_at_end], _, _ = socket.recv_fds(connection, 1, 4)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    with connection.makefile() as text:
        job = json.load(text)
    # SIGIO ends this fork when the program ends, be it by a kill: nothing else closes or fills the pipe.
    fcntl.fcntl(closed_at_end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(closed_at_end, fcntl.F_SETFL, os.O_ASYNC)
    return job


def prepare(job: dict) -> Callable[[], object]:
    """Set folder, environment and paths as Python does; return what runs the program."""
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.executable = job["program"]
    words = job["words"]
    flags = [*itertools.takewhile(("-P", "-u").__contains__, words)]
    words = words[len(flags) :]
    if "-u" in flags:
        sys.stdout.reconfigure(write_through=True)
    is_module = words[0] == "-m"
    sys.argv = words[is_module:]
    first = "" if is_module or words[0] == "-" else str(Path(words[0]).resolve().parent)
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [*([] if "-P" in flags else [first or str(Path.cwd())]), *filter(None, added)]
    if words[0] == "-":
        return functools.partial(exec, sys.stdin.read(), {"__name__": "__main__"})
    if is_module:
        return functools.partial(runpy.run_module, sys.argv[0], None, "__main__", True)
    return functools.partial(runpy.run_path, sys.argv[0], None, "__main__")


def exit_code_of(start: Callable[[], object]) -> int:
    """Run a program to its end; return its exit code, with all output written."""
    code: object = 0
    try:
        start()
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code if isinstance(code, int) else int(code is not None)


def main() -> None:
    number, *libraries = sys.argv[1:]
    for library in libraries:
        if find_spec(library.partition(".")[0]):
            importlib.import_module(library)
    # A collection in a fork would write to, and so copy, every page that it shares.
    gc.freeze()
    connection = serve(socket.socket(fileno=int(number)))
    code = 0
    if connection:
        code = exit_code_of(prepare(receive(connection)))
        connection.sendall(str(code).encode())
    # Taking down this process's many libraries would take longer than most scripts.
    os._exit(code)


if __name__ == "__main__":
    main()
