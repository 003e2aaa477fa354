"""Downloads end: a host that drips, in its body or headers, and one that answers nonsense, is left for the next."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from d3gan import download as module
from d3gan.download import DownloadError, download

DATA = bytes(range(256)) * 40


@contextmanager
def host(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A host that reads a request and answers as told; the address of a file there."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    answer(connection)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    finally:
        listener.close()


def drip(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return answer


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10240\r\n\r\n"


@pytest.mark.parametrize("where", ["body", "headers"])
def test_a_host_that_drips_is_left(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(module, "SLOWEST", 1 << 20)

    def answer(connection: socket.socket) -> None:
        if where == "body":
            connection.sendall(HEAD)
        drip(HEAD + DATA)(connection)

    words = "too slow" if where == "body" else "did not answer in time"
    with host(answer) as url, pytest.raises(DownloadError, match=words) as caught:
        download(url, tmp_path / "p", len(DATA), lambda _: None)
    assert caught.value.host_failed


def test_the_time_follows_the_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(module, "SLOWEST", len(DATA) / 20)

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for start in range(0, len(DATA), 1024):
            connection.sendall(DATA[start : start + 1024])
            time.sleep(0.05)

    with host(answer) as url:
        download(url, tmp_path / "p", len(DATA), lambda _: None)
    assert (tmp_path / "p").read_bytes() == DATA


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://" + b"x" * 300 + b"/\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://\u00b2.\u00b2/\r\n\r\n".encode("latin1"),
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx",
        b"HTTP/1.1 206 Partial\r\nContent-Range: nonsense\r\n\r\nx",
        b"HTTP/9.9 abc\r\n\r\n",
        b"\r\n" * 300,
        b"X: y\r\n" * 300,
        b"",
        b"<html>",
    ],
)
def test_a_host_that_answers_nonsense_is_left(answer: bytes, tmp_path: Path) -> None:
    with host(lambda connection: connection.sendall(answer)) as url, pytest.raises(DownloadError):
        download(url, tmp_path / "p", 5, lambda _: None)
