"""Fixtures that several test files share."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class WebServer:
    """A server on 127.0.0.1 whose files and failures a test chooses. Paths begin with '/'."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    busy: Counter[str] = field(default_factory=Counter)
    """How many requests for a path are answered with 503 first."""
    cuts: dict[str, int] = field(default_factory=dict)
    """The next answer for a path ends after so many bytes."""
    ranges: bool = True
    """Whether a client can ask for the rest of a file."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, range asked for) of every request so far."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path, request.headers.get("Range")
        self.requests.append((path, wanted))
        if self.busy[path] > 0:
            self.busy[path] -= 1
            request.send_error(503)
            return
        if path not in self.files:
            request.send_error(404)
            return
        content, first = self.files[path], 0
        if wanted and self.ranges:
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            if first >= len(content):
                request.send_error(416)
                return
            request.send_response(206)
            last = len(content) - 1
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - first))
        request.end_headers()
        request.wfile.write(content[first : self.cuts.pop(path, len(content))])


@pytest.fixture
def web_server(monkeypatch) -> Iterator[WebServer]:
    server = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    listener.shutdown()
    listener.server_close()
