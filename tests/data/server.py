"""A small server on this machine that gives files, with and without ranges, and fails as real ones do."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Server:
    """What the server gives and what it was asked.

    files: content by name. ranges: whether it honours the header Range. cut_after: bytes after which each of the next
    connections breaks, one taken from the front for each; 0 closes at once. asked: name and Range header of each request.
    """

    files: dict[str, bytes]
    ranges: bool = True
    states_length: bool = True
    cut_after: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    @property
    def names_asked(self) -> set[str]:
        return {name for name, _ in self.asked}


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Server]:
    served = Server(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, asked = self.path.strip("/"), self.headers.get("Range")
            served.asked.append((name, asked))
            content = served.files.get(name)
            if content is None:
                self.send_error(404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and served.ranges else 0
            if start >= len(content) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if served.states_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + served.cut_after.pop(0) if served.cut_after else len(content)
            self.wfile.write(content[start:end])
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
