"""A mirror on this machine that can break off, refuse and answer ranges."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """Serves ``files``; what it was asked is in ``asked``.

    Attributes:
        breaks_after: For the next answer to each name, how many bytes to send before closing the connection.
        ranges: Whether it honours Range.
        pause: Seconds to wait before each answer.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    breaks_after: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    pause: float = 0.0


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *arguments: object) -> None:
        self._mirror = mirror
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name, byte_range = self.path.lstrip("/"), self.headers.get("Range")
        self._mirror.asked.append((name, byte_range))
        time.sleep(self._mirror.pause)
        data = self._mirror.files.get(name)
        if data is None:
            self.send_error(404)
            return
        start = int(byte_range.removeprefix("bytes=").rstrip("-")) if byte_range and self._mirror.ranges else 0
        if start and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = self._mirror.breaks_after.pop(name, len(data))
        self.wfile.write(data[start : start + stop])

    def log_message(self, format: str, *_arguments: object) -> None:
        """Keeps the test's output quiet."""


@contextmanager
def serving() -> Iterator[Mirror]:
    """A mirror that answers while the block runs."""
    served = Mirror()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served))
    served.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
