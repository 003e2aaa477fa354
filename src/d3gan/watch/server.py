"""The server of the page: on this machine alone, for whoever knows its address, and for looking only."""

import hmac
import json
import logging
import os
import re
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.files import kind_of, user_path
from d3gan.output import say
from d3gan.version import __version__
from d3gan.watch.page import POLL_SECONDS, LivePage, asset
from d3gan.watch.runs import WatchedRun

logger = logging.getLogger("d3gan")

HOST = "127.0.0.1"
_ALIVE_SECONDS = 15.0  # after which a quiet connection is written to, so that one that is gone is noticed
_MOST_REPORTS = 4
# A tunnel may end at any port of the browser's machine, but under no other name: a page of another site that has its
# own name lead here (DNS rebinding) says that name.
_HOSTS = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_NO_SITE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; {_NO_SITE}"
)
_TYPES = {".css": "text/css", ".js": "text/javascript"}


class Reports:
    """The reports about finished runs, made when they are asked for and kept until a run changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[object, bytes] = {}

    def page(self, runs: Sequence[WatchedRun]) -> bytes:
        """The report about some runs, as `d3gan report` writes it.

        Raises:
            ConfigError, ExternalError: a run cannot be read.
        """
        signature = tuple(run.signature for run in runs)
        with self._lock:  # one at a time, as matplotlib's settings are the process's
            if signature not in self._pages:
                # Imported here: they bring NumPy and matplotlib along, which watching does not need.
                from d3gan.comparison.compare import compare_runs
                from d3gan.report.embedded_images import read_animations
                from d3gan.report.page import page_of

                paths = [run.path for run in runs]
                page = page_of(compare_runs(paths), read_animations(paths)).encode()
                while len(self._pages) >= _MOST_REPORTS:
                    del self._pages[next(iter(self._pages))]
                self._pages[signature] = page
            return self._pages[signature]


class PageServer(socketserver.ThreadingTCPServer):
    """Serves the page of a folder on 127.0.0.1.

    Args:
        path: a run directory, or a folder that holds some.
        port: 0: a free one.

    Raises:
        ExternalError: the port cannot be had.
    """

    daemon_threads = True
    # Else a port that was in use a minute ago could not be had again; and no other program may share it.
    allow_reuse_address, allow_reuse_port = os.name == "posix", False

    def __init__(self, path: Path, port: int = 0):
        self.page, self.reports = LivePage(path), Reports()
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ExternalError(
                f"--port {port}: {error.strerror or error}; give another one, or none for a free one"
            ) from error

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """The page's address, with its token."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Logs what went wrong, unless a browser went away."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            logger.warning(f"the page: {type(error).__name__}: {first_line(error)}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # for a request to come in

    def version_string(self) -> str:
        """What the header ``Server`` says."""
        return f"d3gan/{__version__}"

    @property
    def _server(self) -> PageServer:
        return cast(PageServer, self.server)

    def parse_request(self) -> bool:
        """Reads a request's head, and refuses whatever is not a GET of this page by a browser on a known name."""
        if not super().parse_request():
            return False
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _HOSTS.fullmatch(hosts[0].strip()):
            self._refuse(HTTPStatus.FORBIDDEN, "this server answers to localhost, 127.0.0.1 and [::1] alone")
            return False
        token = self.path.partition("?")[0].split("/")[1:2]
        if not token or not hmac.compare_digest(token[0].encode("utf-8", "replace"), self._server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "the address lacks the token that d3gan watch printed")
            return False
        if self.command != "GET":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "this server is for looking: GET alone")
            return False
        return True

    def do_GET(self) -> None:
        """Answers a request that ``parse_request`` let through."""
        path, _, query = self.path.partition("?")
        page = self._server.page
        match path.split("/")[2:]:
            case []:
                self._answer(b"", "text/plain", HTTPStatus.MOVED_PERMANENTLY, {"Location": f"/{self._server.token}/"})
            case [""]:
                self._answer(page.html().encode(), "text/html; charset=utf-8")
            case ["events"]:
                self._send_events(query)
            case ["samples", key, step] if step.isdecimal() and len(step) < 16:
                try:
                    # Its address has its version, so that a browser may keep it.
                    lasting = {"Cache-Control": "private, max-age=86400, immutable"}
                    self._answer(page.sample(key, int(step)), "image/png", headers=lasting)
                except OSError:
                    self._refuse(HTTPStatus.NOT_FOUND, "no such sample grid")
            case ["report", key]:
                runs = page.runs() if key == "all" else [run for run in page.runs() if run.key == key]
                self._send_report(runs)
            case [name] if (content := asset(name)) is not None:
                self._answer(content, f"{_TYPES[Path(name).suffix]}; charset=utf-8")
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def _send_report(self, runs: Sequence[WatchedRun]) -> None:
        if not runs:
            return self._refuse(HTTPStatus.NOT_FOUND, "no such run")
        try:
            content = self._server.reports.page(runs)
        except (ConfigError, ExternalError) as error:
            return self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"no report: {error}")
        # The report says itself what it may load: nothing.
        return self._answer(content, "text/html; charset=utf-8", headers={"Content-Security-Policy": _NO_SITE})

    def _send_events(self, query: str) -> None:
        """Sends what changes, until the browser is gone (server-sent events: HTML standard, section 9.2)."""
        since = re.fullmatch(r"since=(\d{1,15})", query)
        again = re.fullmatch(r"\d{1,15}", self.headers.get("Last-Event-ID", ""))
        version = max(int(since[1]) if since else 0, int(again[0]) if again else 0)
        self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8", {"Connection": "close"})
        quiet_since = 0.0
        while True:
            now, parts = self._server.page.news(version)
            for i, (name, html) in enumerate(parts, 1):
                # The version counts once all of it has come.
                number = f"id: {now}\n" if i == len(parts) else ""
                data = json.dumps({"id": name, "html": html})
                self.wfile.write(f"event: part\n{number}data: {data}\n\n".encode())
            version = now
            if parts:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > _ALIVE_SECONDS:
                self.wfile.write(b": here\n\n")
                quiet_since = time.monotonic()
            time.sleep(POLL_SECONDS)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # a body that was not read would be taken for the next request
        headers = {"Connection": "close"}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET"
        self._answer(f"{reason}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8", status, headers)

    def _answer(
        self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> None:
        self._head(status, kind, {"Content-Length": str(len(content))} | (headers or {}))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        safe = {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in (safe | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: lines of requests would hold the token."""


def watch(path: str, port: int = 0, opens: bool = False) -> None:
    """Serves the page until Ctrl-C, and prints its address.

    Args:
        path: a run directory, or a folder that holds some, now or later.
        port: of the page; 0: a free one.
        opens: open it in the browser.

    Raises:
        ConfigError: the folder does not exist.
        ExternalError: the port cannot be had.
        KeyboardInterrupt: Ctrl-C.
    """
    folder = user_path(path)
    if (kind := kind_of(folder)) != "a folder":
        raise ConfigError(
            f"{path}: {f'is {kind}' if kind else 'does not exist'}; give a run directory, or a folder of runs"
        )
    with PageServer(folder, port) as server:
        say(f"watching {path}; Ctrl-C ends it. The page:\n  {server.address}")
        say(
            f"if your browser is on another machine, run this there, then open the same address:\n"
            f"  ssh -N -L {server.port}:{HOST}:{server.port} {socket.gethostname()}"
        )
        if opens:
            threading.Thread(target=_open, args=(server.address,), daemon=True).start()
        if hasattr(os, "nice"):
            os.nice(10)  # training comes first
        server.serve_forever()


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        logger.warning("no browser was found here; open the address yourself")
