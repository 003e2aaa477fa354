"""One file over HTTP(S), continued where an earlier attempt stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # bytes read at once
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
TRIES = 2


class DownloadError(Exception):
    """A download failed; the message says why.

    Attributes:
        host_failed: Whether the host itself did not answer, so that asking it for another file is useless.
        broke_off: Whether it began well, so that another try may go on from there.
    """

    def __init__(self, why: str, *, host_failed: bool = False, broke_off: bool = False) -> None:
        super().__init__(why)
        self.host_failed = host_failed
        self.broke_off = broke_off


def download(url: str, part: Path, size: int | None, advance: Callable[[int], None]) -> None:
    """Downloads ``url`` into ``part``, continuing what an earlier call left there.

    A break half-way is tried once more, from where it broke. Proxies are taken from the environment. The content is
    not checked here; OSError from writing is let through.

    Args:
        url: Where the file is.
        part: Where its bytes go; kept when the download breaks, so that the next call continues it.
        size: Length in bytes the whole file must have, or None where unknown.
        advance: Called with the number of bytes each time some are there; negative when starting anew.

    Raises:
        DownloadError: the host cannot be reached, refuses, or sends another length than expected.
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
    """One request, for what ``part`` lacks."""
    import requests

    # The file is wanted as it lies there: a .gz must arrive packed.
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
            # 416: what is there already is no beginning of this file.
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
    """Where the bytes of this answer belong: ``have``, or 0 where the server sends the whole file."""
    if response.status_code != 206:
        return 0
    given = response.headers.get("Content-Range", "")
    if not given.startswith(f"bytes {have}-"):
        raise DownloadError(f"was asked for bytes from {have} on and sent '{given}'")
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
    """The reason inside the layers that requests and urllib3 wrap around it."""
    reason: BaseException = error
    while True:
        inner = getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    # urllib3 puts the object that failed before the reason: "HTTPSConnection(host=..., port=443): reason".
    return " ".join(str(reason).split("): ", 1)[-1].split()) or type(error).__name__
