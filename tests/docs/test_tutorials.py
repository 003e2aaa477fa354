"""The notebooks of docs/tutorials: each runs from its first cell to its last, and is kept with what that gives."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
NOTEBOOKS = sorted(path.name for path in TUTORIALS.glob("*.ipynb"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def pictures(path: Path) -> int:
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    return sum(kind.startswith("image/") for output in outputs for kind in output.get("data", {}))


def test_there_are_six_and_the_overview_names_each() -> None:
    overview = (TUTORIALS / "README.md").read_text()
    assert [name[0] for name in NOTEBOOKS] == list("123456")
    assert [name for name in NOTEBOOKS if f"]({name})" not in overview] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_is_kept_with_small_outputs_of_this_very_code(name: str) -> None:
    path = TUTORIALS / name
    assert [cell["execution_count"] for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))
    text = path.read_text()
    assert len(text) < 600_000
    assert pictures(path) >= 2
    assert [word for word in ("/tmp/", "/home/", "/root/", "Traceback", "Warning") if word in text] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_picture_says_in_words_what_it_shows(name: str) -> None:
    """The site takes a picture's text, for those who cannot see it, from the first line of its cell."""
    drawing = [
        "".join(cell["source"]).partition("\n")[0]
        for cell in code_cells(TUTORIALS / name)
        if any(
            "image/png" in output.get("data", {}) or "image/webp" in output.get("data", {})
            for output in cell["outputs"]
        )
    ]
    assert [
        line for line in drawing if not (line.startswith("# ") and line.endswith((".", "?")) and len(line) > 15)
    ] == []


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_runs_from_the_first_cell_to_the_last(name: str, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'd3gan[test]'")
    words = [sys.executable, str(TUTORIALS.parent / "theme" / "execute_tutorials.py"), name, f"--out={tmp_path}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pictures(tmp_path / name) == pictures(TUTORIALS / name)
    if name.startswith("6"):
        assert "bit for bit: True" in (tmp_path / name).read_text()
