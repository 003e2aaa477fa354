"""Runs the notebooks of docs/tutorials from their first cell to the last, and keeps what they print and draw.

    python docs/theme/execute_tutorials.py                     # all, in place: `make tutorials`
    python docs/theme/execute_tutorials.py 4-measure.ipynb --out FOLDER   # one; with its outputs it goes to FOLDER

Each notebook runs in an empty folder of its own, as its reader's would.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "tutorials"
SECONDS_PER_CELL = 600


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, without what differs from one run to the next.

    Args:
        path: of the notebook.
        folder: in which it runs.

    Raises:
        CellExecutionError: a cell raised an exception.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    # `!d3gan` is the program of this environment.
    programs = str(Path(sys.executable).parent)
    os.environ["PATH"] = programs + os.pathsep + os.environ["PATH"]
    os.environ["TTY_COMPATIBLE"] = "0"  # rich's word for: print lines, draw no bars
    NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata.language_info = {"name": "python"}  # not this machine's version
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [each for each in map(_kept, cell.outputs) if each is not None]
    return notebook


def _kept(output: Any) -> Any:
    """An output as the site shows it; None: nothing is left of it."""
    if output.output_type == "stream":
        output.text = _plain(output.text)
        return output if output.text else None
    if "data" in output:
        kinds = ("image/png", "image/webp", "text/plain")
        output.data = {kind: output.data[kind] for kind in kinds if kind in output.data}
        if set(output.data) - {"text/plain"}:
            output.data.pop("text/plain", None)
        elif "text/plain" in output.data:
            output.data["text/plain"] = _plain(output.data["text/plain"])
        return output if any(output.data.values()) else None
    return output


def _plain(text: str) -> str:
    """Text without colors, progress bars, what they wrote over, and paths of this machine."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n").splitlines()
    lines = [re.sub(r"/\S*/(?=(runs|prepared)/)", "", line.rpartition("\r")[2].rstrip()) for line in lines]
    return "".join(f"{line}\n" for line in lines if line and "━" not in line)


def main() -> None:
    """Executes the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "notebooks",
        nargs="*",
        default=sorted(path.name for path in TUTORIALS.glob("*.ipynb")),
    )
    parser.add_argument("--out", type=Path, default=TUTORIALS)
    arguments = parser.parse_args()
    for name in arguments.notebooks:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(TUTORIALS / name, Path(folder))
        nbformat.write(notebook, arguments.out / name)  # type: ignore[no-untyped-call]
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
