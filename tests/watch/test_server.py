"""Who may look at the page, and at what."""

import http.client
import math
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from d3gan.watch.charts import Chart
from d3gan.watch.page import LivePage
from d3gan.watch.runs import WatchedRun
from d3gan.watch.server import PageServer
from tests.report.synthetic import write_run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("watched")
    write_run(folder / "runs" / "one", grids=2)
    with PageServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: PageServer, path: str, method: str = "GET", host: str | None = None, body: bytes | None = None
) -> tuple[int, str, bytes, http.client.HTTPMessage]:
    """Status, type, content and headers of an answer; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path.replace("TOKEN", server.token), skip_host=True)
    if host is None or host:
        connection.putheader("Host", host or f"127.0.0.1:{server.port}")
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Type", ""), content, answer.msg


def test_the_page_and_all_that_it_names(server: PageServer) -> None:
    status, kind, content, headers = ask(server, "/TOKEN/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "no-store")
    text = content.decode()
    names = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert len(names) > 5
    for name in names:
        if not name.startswith(("data:", "report/")):  # a report takes seconds
            assert not name.startswith(("/", "http")), "an address that a tunnel's other port would break"
            assert ask(server, f"/TOKEN/{name}")[0] == 200, name
    (sample,) = [name for name in names if name.startswith("samples/")]
    status, kind, content, headers = ask(server, f"/TOKEN/{sample}")
    assert (kind, content[:4]) == ("image/png", b"\x89PNG")
    assert "immutable" in headers["Cache-Control"]
    status, _, _, headers = ask(server, "/TOKEN")
    assert (status, headers["Location"]) == (301, f"/{server.token}/")


@pytest.mark.parametrize(
    "path", ["/", "", "/index.html", "/TOKEN0/", "/token/", "//TOKEN/", "/x/TOKEN/", "/?TOKEN", "*"]
)
def test_without_the_token_nothing_is_shown(path: str, server: PageServer) -> None:
    if path == "/TOKEN0/":
        path = f"/{server.token[:-1]}/"
    status, kind, content, _ = ask(server, path)
    if path == "//TOKEN/":  # Python reads it as /TOKEN/
        assert status == 200
        return
    assert (status, kind) == (403, "text/plain; charset=utf-8")
    assert server.token.encode() not in content


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),  # the other end of a tunnel
        ("localhost", 200),
        ("LOCALHOST:65535", 200),
        ("[::1]:8000", 200),
        ("", 403),
        ("example.org", 403),
        ("example.org:80", 403),
        ("127.0.0.1.example.org", 403),
        ("localhost.example.org:80", 403),
        ("example.org@127.0.0.1", 403),
        ("127.0.0.2", 403),
        ("0.0.0.0", 403),
    ],
)
def test_only_this_machines_own_names_are_answered(host: str, status: int, server: PageServer) -> None:
    assert ask(server, "/TOKEN/", host=host)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "GETS"])
def test_looking_is_all(method: str, server: PageServer) -> None:
    body = b"GET /TOKEN/ HTTP/1.1\r\n\r\n" if method in ("POST", "PUT") else None
    status, _, _, headers = ask(server, "/TOKEN/", method, body=body)
    assert (status, headers["Allow"]) == (405, "GET")
    assert "Access-Control-Allow-Origin" not in headers
    assert ask(server, "/x/", method)[0] == 403


def key_of(server: PageServer) -> str:
    (run,) = server.page.runs()
    return run.key


ELSEWHERE = """
/TOKEN/../TOKEN/ /TOKEN/config.ini /TOKEN/page.py /TOKEN/../watch/page.py /TOKEN/watch.html.jinja /TOKEN/report.js
/TOKEN/samples /TOKEN/samples/KEY /TOKEN/samples/KEY/ /TOKEN/samples/KEY/7 /TOKEN/samples/KEY/../../config.ini
/TOKEN/samples/KEY/..%2f..%2fconfig.ini /TOKEN/samples/KEY/-1 /TOKEN/samples/..%2f/0 /TOKEN/samples/one/0
/TOKEN/samples/KEY/99999999999999999999 /TOKEN/report/one /TOKEN/report/ /TOKEN/report/../KEY
/TOKEN/%2e%2e/etc/passwd /TOKEN//etc/passwd
"""


@pytest.mark.parametrize("path", ELSEWHERE.split())
def test_no_other_file_can_be_reached(path: str, server: PageServer) -> None:
    ask(server, "/TOKEN/")
    assert ask(server, path.replace("KEY", key_of(server)))[0] == 404


def test_links_among_the_samples_lead_nowhere(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grids=2)
    secret = tmp_path / "secret.png"
    shutil.copy(run / "samples" / "step-00000000.png", secret)
    (run / "samples" / "step-00000007.png").symlink_to(secret)
    (run / "samples" / "step-00000008.png").write_text("no picture")
    with PageServer(run) as server:
        page = server.page
        page.html()
        (watched,) = page.runs()
        assert [grid.step for grid in watched.grids] == [0, 8, 1200]
        for step in (7, 8, 99):
            with pytest.raises(OSError, match=r"7|no PNG|99"):
                page.sample(watched.key, step)
        assert page.sample(watched.key, 0).startswith(b"\x89PNG")
        # A link that takes the place of a file, or of the folder, after the look.
        (run / "samples" / "step-00000000.png").unlink()
        (run / "samples" / "step-00000000.png").symlink_to(secret)
        with pytest.raises(PermissionError, match="is a link"):
            page.sample(watched.key, 0)
        (run / "samples").rename(tmp_path / "elsewhere")
        (run / "samples").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(PermissionError, match="is a link"):
            page.sample(watched.key, 1200)


def test_only_what_changed_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [write_run(tmp_path / name, grids=1) for name in ("a", "b")]
    page = LivePage(tmp_path)
    page.html()
    drawn: list[str] = []

    def run_charts(run: WatchedRun) -> list[Chart]:
        drawn.append(run.name)
        return []

    monkeypatch.setattr("d3gan.watch.page.run_charts", run_charts)
    monkeypatch.setattr(page, "_looked", -math.inf)
    assert page.news(1) == (1, [])
    (runs[1] / "metrics.jsonl").write_text("")
    monkeypatch.setattr(page, "_looked", -math.inf)
    version, parts = page.news(1)
    assert (version, drawn) == (2, ["b"])
    assert any("Curves appear" in html for _, html in parts)


def events(server: PageServer, since: int, header: str = "") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Last-Event-ID": header} if header else {}
    connection.request("GET", f"/{server.token}/events?since={since}", headers=headers)
    return connection.getresponse()


def test_what_changes_is_sent_and_only_that(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model="dcgan", grids=2)
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:6]))
    (run / "evaluations.jsonl").write_text("")
    with PageServer(run) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        version = int(re.findall(r'data-version="(\d+)"', ask(server, "/TOKEN/")[2].decode())[0])
        stream = events(server, version)
        assert stream.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        metrics.write_text("".join(lines[:8]))
        received = b""
        while not re.search(rb"id: \d+\ndata: .*\n", received):
            received += stream.readline()
        assert set(re.findall(rb'"id": "(\w+)', received)) == {b"facts", b"charts", b"values"}
        assert b"800 of 1,200" in received
        stream.close()
        # A browser that comes back names the last version that it has; one without a version gets all.
        again = events(server, 0, header=str(version))
        assert b'"values"' in again.readline() + again.readline()
        everything = events(server, 0)
        assert b'"status"' in everything.readline() + everything.readline()
        again.close()
        everything.close()
        server.shutdown()


def test_several_viewers_cost_one_look_a_second(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(server.page.folder, "look", lambda: looks.append(time.monotonic()))
    for _ in range(5):
        server.page.news(0)
    assert len(looks) <= 1


def test_a_finished_run_becomes_its_report_which_is_made_once_until_it_changes(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[Path]] = []
    # Drawing takes seconds; the browser's tests see a true one.
    monkeypatch.setattr("d3gan.comparison.compare.compare_runs", lambda paths: made.append(paths))
    monkeypatch.setattr("d3gan.report.page.page_of", lambda *_: f"report {len(made)}")
    (link,) = re.findall(r'href="(report/\w+)"', ask(server, "/TOKEN/")[2].decode())
    status, kind, content, headers = ask(server, f"/TOKEN/{link}")
    assert (status, kind, content) == (200, "text/html; charset=utf-8", b"report 1")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert ask(server, f"/TOKEN/{link}")[2] == ask(server, "/TOKEN/report/all")[2] == b"report 1"
    (path,) = made[0]
    with (path / "evaluations.jsonl").open("a") as file:
        file.write("\n")
    monkeypatch.setattr(server.page, "_looked", 0.0)
    ask(server, "/TOKEN/")
    assert ask(server, f"/TOKEN/{link}")[2] == b"report 2"


def test_a_report_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grids=1)
    with PageServer(run) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        ask(server, "/TOKEN/")
        shutil.rmtree(run)
        status, kind, content, _ = ask(server, "/TOKEN/report/all")
        assert (status, kind) == (500, "text/plain; charset=utf-8")
        assert b"holds no run of d3gan" in content
        server.shutdown()
