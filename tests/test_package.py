"""The distributed package: names and numbers agree, pages name files that exist, and the built wheel works."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from d3gan import __version__
from d3gan.config.presets import preset_names
from tests.conftest import IMAGES, tiny_settings

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
Run = Callable[..., str]


def test_the_version_is_the_same_everywhere() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} < citation.keys()
    assert citation["license"] == PROJECT["license"]
    assert citation["version"] == PROJECT["version"] == __version__


def named_extras() -> list[tuple[str, str]]:
    """File and extra, wherever one is named: ``d3gan[onnx]``, ``'.[test,check]'``."""
    files = [ROOT / ".ci/run", *(path for path in ROOT.iterdir() if path.is_file() and path.suffix != ".cff")]
    files += [path for folder in ("docs", "src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*")]
    binary = {".png", ".webp", ".pyc"}
    named = []
    for file in files:
        if file.is_file() and file.suffix not in binary:
            for extras in re.findall(r"""(?:\bd3gan|["' ]\.)\[([a-z][a-z0-9,-]*)\]""", file.read_text()):
                named += [(str(file.relative_to(ROOT)), extra) for extra in extras.split(",")]
    return named


def test_every_extra_that_is_named_exists() -> None:
    named = named_extras()
    assert {"README.md", "Makefile", "docs/cluster/Dockerfile", "src/d3gan/export/onnx_file.py"} <= {
        file for file, _ in named
    }
    assert [each for each in named if each[1] not in PROJECT["optional-dependencies"]] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/algorithm.md"])
def test_every_source_file_that_a_page_names_exists(page: str) -> None:
    paths = re.findall(r"[`(](?:\.\./)?((?:src|tests|docs|benchmarks)/[^`)#*\s]*)", (ROOT / page).read_text())
    assert len(paths) > 2
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_map_of_the_rooms_is_the_order_of_imports_that_is_checked() -> None:
    """CONTRIBUTING.md's table has one row per layer of import-linter, and every room of the package is in it."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| room |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    (contract,) = PYPROJECT["tool"]["importlinter"]["contracts"]
    assert rows == [[name.removeprefix("d3gan.") for name in layer.split(" | ")] for layer in contract["layers"]]
    package = ROOT / "src" / "d3gan"
    modules = [*package.glob("*.py"), *(path.parent for path in package.glob("*/__init__.py"))]
    rooms = {path.stem for path in modules} - {"__init__", "__main__"}
    assert rooms == {room for row in rows for room in row}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive, which is in the same folder."""
    pytest.importorskip("build", reason="build is not installed: pip install 'd3gan[package]'")
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", f"--outdir={folder}", str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel, and borrows all other packages from this one."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(built)], check=True)
    # Python adds the lines of a .pth file to its path, but does not read the .pth files in those folders: an editable
    # d3gan there stays out.
    borrowed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own_packages,) = environment.glob("lib/python*/site-packages")
    (own_packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return environment / "bin"


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs a program of that environment in an empty folder, where no checkout is on the path; gives its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(program: str, *words: str) -> str:
        done = subprocess.run(
            [str(installed / program), *words], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.wheel
def test_the_wheel_holds_every_file_of_the_package_and_describes_itself(built: Path) -> None:
    source = ROOT / "src"
    files = {path for path in (source / "d3gan").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with zipfile.ZipFile(built) as archive:
        packed = {name for name in archive.namelist() if name.startswith("d3gan/")}
        metadata = message_from_bytes(archive.read(f"d3gan-{__version__}.dist-info/METADATA"))
    assert packed == {path.relative_to(source).as_posix() for path in files}
    assert metadata["Version"] == __version__
    text = str(metadata.get_payload())
    assert "docs/results.md" in text
    assert re.findall(r"\]\((?!https?:).*?\)", text) == [], "a package index has no files to link to"


@pytest.mark.wheel
def test_an_index_would_take_it(built: Path) -> None:
    pytest.importorskip("twine", reason="twine is not installed: pip install 'd3gan[package]'")
    words = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.parent.iterdir())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.wheel
@pytest.mark.timeout(300)  # nine processes, each of which imports torch
def test_the_installed_wheel_does_what_the_readme_says(
    run: Run, installed: Path, pictures: Path, tmp_path: Path
) -> None:
    where = run("python", "-c", "import d3gan; print(d3gan.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent), "the checkout's d3gan would be tested"
    assert run("d3gan", "--version") == f"d3gan {__version__}\n"
    assert set(preset_names()) <= set(run("d3gan", "presets").splitlines())

    out = tmp_path / "run"
    settings: dict[str, Any] = tiny_settings(pictures, out, max_steps=10)
    settings |= {"nc": 3, "evaluate_every": 10, "num_samples": 16, "metrics": "fid", "reference": pictures}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    trained = run("d3gan", "train", "--preset=mnist-demo", *flags)
    assert f"done: 10 steps; samples in {out}" in trained
    (line,) = (out / "evaluations.jsonl").read_text().splitlines()
    assert "fid_efficientnet-lite0" in line

    words = [
        f"--num-samples={IMAGES}",
        f"--reference={pictures}",
        "--features=efficientnet-lite0",
        "--metrics=fid,is",
    ]
    measured = run("d3gan", "evaluate", str(out), *words, "--json", "--device=cpu")
    assert json.loads(measured)["is_efficientnet-lite0"] >= 1
    run("d3gan", "sample", str(out), "--num=4", "--out=grid.png")
    run("d3gan", "export", str(out), "--out=generator.safetensors")
    run("d3gan", "report", str(out), "--out=page.html")
    for name in ("grid.png", "generator.safetensors", "page.html"):
        assert (tmp_path / name).stat().st_size > 100
    code = "import d3gan; print(tuple(d3gan.sample(d3gan.load_generator('generator.safetensors'), num=2).shape))"
    assert run("python", "-c", code) == "(2, 3, 16, 16)\n"
