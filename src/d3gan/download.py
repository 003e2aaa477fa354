"""Downloads one file over HTTP(S), resuming an earlier attempt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # bytes read at a time
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
TRIES = 2


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


def download(url: str, part: Path, size: int | None, advance: Callable[[int], None]) -> None:
    """Downloads ``url`` into ``part``, resuming after the bytes that are already there.

    If the connection breaks, tries once more from that point. Proxies come from the environment. Does not check the
    content; raises OSError if writing fails.

    Args:
        url: The file's address.
        part: The file to write; stays when the download breaks, so that the next call can resume it.
        size: Length of the whole file in bytes, or None if unknown.
        advance: Called with the number of new bytes; negative when the download starts anew.

    Raises:
        DownloadError: the host is unreachable, refuses, or sends another length than expected.
    """
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have > size:
        part.unlink()
        have = 0
    advance(have)
    for attempt in range(1, TRIES + 1):
        if size is not None and have == size:
            return
        try:
            _transfer(url, part, have, size, advance)
            return
        except DownloadError as error:
            if attempt == TRIES or not error.broke_off:
                raise
            have = part.stat().st_size if part.exists() else 0


def _transfer(url: str, part: Path, have: int, size: int | None, advance: Callable[[int], None]) -> None:
    """Requests the bytes that ``part`` lacks, and appends them."""
    import requests

    # The file must arrive as the host stores it: a .gz still packed.
    headers = {"Accept-Encoding": "identity", "User-Agent": "d3gan"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.RequestException as error:
        raise DownloadError(_plain(error), host_failed=True) from error
    with response:
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
        expected = start + int(length) if length.isdigit() else size
        if size is not None and expected is not None and expected != size:
            raise DownloadError(f"offers {expected:,} bytes, expected {size:,}")
        _receive(response, part, start, expected, advance)


def _start_of(response: Any, have: int) -> int:
    """The offset of the response's first byte: ``have``, or 0 if the server sends the whole file."""
    if response.status_code != 206:
        return 0
    content_range = response.headers.get("Content-Range", "")
    if not content_range.startswith(f"bytes {have}-"):
        raise DownloadError(f"was asked for bytes from {have} on and sent '{content_range}'")
    return have


def _receive(response: Any, part: Path, start: int, expected: int | None, advance: Callable[[int], None]) -> None:
    from urllib3.exceptions import HTTPError

    have = start
    with part.open("ab" if start else "wb") as file:
        while True:
            try:
                chunk = response.raw.read(CHUNK, decode_content=False)
            except (HTTPError, ConnectionError, TimeoutError) as error:
                raise DownloadError(f"broke off after {have:,} bytes ({error})", broke_off=True) from error
            if not chunk:
                break
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
