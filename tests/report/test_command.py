"""`d3gan report` as a person types it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from d3gan.cli import main
from tests.report.synthetic import write_animation, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `d3gan compare` leaves it: two models, two seeds."""
    folder = tmp_path_factory.mktemp("comparison")
    for model in ("dcgan", "d3gan"):
        for seed in (0, 1):
            changes: dict[str, Any] = {"model": model, "seed": seed}
            write_run(folder / "runs" / f"mnist-{model}-s{seed}", grids=3, **changes)
    (folder / "animations").mkdir()
    write_animation(folder / "animations" / "mnist-b128.gif")
    return folder


def names_in(page: Path, folder: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    return {run.name for run in (folder / "runs").iterdir() if f">{run.name}</td>" in text}


def test_a_comparison_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.html")
    assert len(names_in(folder / "report.html", folder)) == 4
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<b>mnist-b128</b>" in text
    assert text.count("<svg") >= 1
    assert len(text) < 10_000_000


def test_some_runs_into_the_current_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [str(folder / "runs" / name) for name in ("mnist-dcgan-s1", "mnist-d3gan-s1")]
    assert main(["report", *runs]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "report.html"
    assert names_in(tmp_path / "report.html", folder) == {"mnist-dcgan-s1", "mnist-d3gan-s1"}


def test_one_run_alone_and_a_name_for_the_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "mine.html"
    page.parent.mkdir()
    page.write_text("an older page")
    assert main(["report", str(folder / "runs" / "mnist-d3gan-s0"), "--out", str(page)]) == 0
    assert names_in(page, folder) == {"mnist-d3gan-s0"}
    assert [path.name for path in page.parent.iterdir()] == ["mine.html"]


def test_a_run_given_twice_counts_once(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run = folder / "runs" / "mnist-d3gan-s0"
    assert main(["report", str(run), str(folder), f"{run}/", str(run.parent), f"--out={page}"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<summary>mnist-d3gan-s0</summary>") == 1
    assert text.count("data-frames=") == 4


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("", 2, "RUNS is missing: d3gan report RUNS [OPTIONS]"),
        ("nowhere", 2, "nowhere: does not exist; give run directories, or a folder that holds some"),
        ("empty", 2, "empty: holds no run of d3gan; give run directories, or a folder that holds some"),
        ("RUN nowhere", 2, "nowhere: does not exist"),
        ("RUN --out empty", 2, "--out empty: the page's name must end in .html"),
        ("RUN --out folder.html", 2, "--out folder.html: is a folder"),
        ("RUN --out file/page.html", 1, "file: File exists; check that it is there and permitted"),
        ("RUN --ou page.html", 2, "--ou: unknown flag (did you mean '--out'?)"),
    ],
)
def test_mistakes_get_one_line(
    words: str,
    code: int,
    expected: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "folder.html"):
        Path(name).mkdir()
    Path("file").write_text("")
    run = str(folder / "runs" / "mnist-d3gan-s0")
    assert main(["report", *(run if word == "RUN" else word for word in words.split())]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_neither_the_help_nor_the_page_needs_torch(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from d3gan.cli import main\n"
        f"code = main(['report', {str(folder)!r}, '--out', {str(tmp_path / 'page.html')!r}])\n"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
