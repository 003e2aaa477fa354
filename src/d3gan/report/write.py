"""Writes the page about run directories."""

from collections.abc import Sequence
from pathlib import Path

from d3gan.comparison.compare import compare_runs
from d3gan.comparison.results import Comparison
from d3gan.errors import ConfigError
from d3gan.files import refuse_unwritable, write_text
from d3gan.report.embedded_images import read_animations
from d3gan.report.page import page_of
from d3gan.runs.directory import runs_in


def write_report(paths: Sequence[str], out: str = "", against: str = "") -> Path:
    """Writes the page about some runs.

    Args:
        paths: run directories, folders that hold run directories, or folders that ``d3gan compare`` wrote; if one
            holds a scaling.json, the page shows the figures of ``d3gan scale`` too.
        out: the file; empty: report.html in the folder of runs if it is the only path, else in the current folder.
        against: the variant to compare the others with; empty: the comparison chooses.

    Returns:
        The file written.

    Raises:
        ConfigError: a path holds no run, or ``out`` is a folder.
        ExternalError: a run cannot be read, or the page cannot be written.
    """
    folders = [Path(path) for path in dict.fromkeys(paths)]
    runs = [run for folder in folders for run in runs_in(folder)]
    one_folder = len(folders) == 1 and runs != folders
    page = Path(out) if out else (folders[0] if one_folder else Path()) / "report.html"
    if page.is_dir():
        raise ConfigError(f"--out {page}: is a folder; give the name of a file in it, such as {page / 'report.html'}")
    refuse_unwritable(page.parent)  # before figures are drawn for a minute
    scaling = next((path for path in paths if (Path(path) / "scaling.json").is_file()), "")
    comparison = compare_runs(list({run.resolve(): run for run in runs}.values()), against=against, scaling=scaling)
    return write_page(comparison, [folder for folder in folders if folder not in runs], page)


def write_page(comparison: Comparison, folders: Sequence[Path], path: Path) -> Path:
    """Writes the page about a comparison.

    Args:
        comparison: as ``compare_runs`` makes it.
        folders: that hold its animations; where they hold none, the page shows those in the run directories.
        path: the file.

    Returns:
        The file written.

    Raises:
        ExternalError: it cannot be written.
    """
    animations = read_animations(folders) or read_animations(run.path for run in comparison.runs)
    write_text(path, page_of(comparison, animations))
    return path
