"""A local web server that misbehaves on request, for tests of downloads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What a server sends, how it fails, and which requests it got.

    files: path → bytes; cut: path → bytes after which each of the next answers breaks off; status: path →
    an error that it answers; ranges: whether it knows ranges; lengths: whether it tells sizes; asked:
    (path, Range header) of each request.
    """

    files: Mapping[str, bytes]
    cut: dict[str, list[int]] = field(default_factory=dict)
    status: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    lengths: bool = True
    pause_seconds: float = 0.0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(served: Served) -> Iterator[Served]:
    """Run the server until the block ends; `served.url` is its address."""
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.asked.append((self.path, asked))
            if served.status.get(self.path):
                self.send_error(served.status[self.path].pop(0))
                return
            if self.path not in served.files:
                self.send_error(404)
                return
            content = served.files[self.path]
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and served.ranges else 0
            if start >= len(content) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if served.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cuts = served.cut.get(self.path)
            stop = start + cuts.pop(0) if cuts else len(content)
            release.wait(served.pause_seconds)
            self.wfile.write(content[start:stop])

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()
