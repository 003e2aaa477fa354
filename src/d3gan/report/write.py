"""From run directories to the page's file, within its size."""

from collections.abc import Sequence
from pathlib import Path

from d3gan.comparison.compare import compare_runs
from d3gan.comparison.results import Comparison
from d3gan.errors import ConfigError
from d3gan.files import refuse_unwritable, write_text
from d3gan.report.embedded_images import read_animations
from d3gan.report.fitting import page_of
from d3gan.runs.directory import RunDirectory


def write_report(places: Sequence[str], out: str = "", against: str = "") -> Path:
    """Writes the page about the runs at some places.

    Args:
        places: run directories, folders of run directories, or folders that ``d3gan compare`` wrote; the figures of
            ``d3gan scale`` go along where one of them holds a scaling.json.
        out: the file; empty: report.html in the one folder of several runs that is given, else in the current folder.
        against: the variant that the others are compared with; empty: the comparison's own choice.

    Returns:
        The file written.

    Raises:
        ConfigError: a place holds no run, or ``out`` is a folder.
        ExternalError: a run cannot be read, the page cannot be written, or is too large even without pictures.
    """
    folders = [Path(place) for place in dict.fromkeys(places)]
    runs = [run for folder in folders for run in runs_in(folder)]
    alone = len(folders) == 1 and runs != folders
    path = Path(out) if out else (folders[0] if alone else Path()) / "report.html"
    if path.is_dir():
        raise ConfigError(f"--out {path}: is a folder; give the name of a file in it, such as {path / 'report.html'}")
    refuse_unwritable(path.parent)  # before figures are drawn for a minute
    scaling = next((place for place in places if (Path(place) / "scaling.json").is_file()), "")
    comparison = compare_runs(list({run.resolve(): run for run in runs}.values()), against=against, scaling=scaling)
    return write_page(comparison, [folder for folder in folders if folder not in runs], path)


def write_page(comparison: Comparison, folders: Sequence[Path], path: Path) -> Path:
    """Writes the page about a comparison.

    Args:
        comparison: as ``compare_runs`` makes it.
        folders: where its animations are; those of the runs themselves are shown where there are none.
        path: the file.

    Returns:
        The file written.

    Raises:
        ExternalError: it cannot be written, or is too large even without pictures.
    """
    animations = read_animations(folders) or read_animations(run.path for run in comparison.runs)
    write_text(path, page_of(comparison, animations))
    return path


def runs_in(folder: Path) -> list[Path]:
    """The run directories that a place stands for: itself, those in its folder ``runs``, or those in it.

    Raises:
        ConfigError: there are none.
    """
    if RunDirectory(folder).is_ours():
        return [folder]
    for place in (folder / "runs", folder):
        found = sorted(path.parent for path in place.glob("*/config.ini") if RunDirectory(path.parent).is_ours())
        if found:
            return found
    if not folder.exists():
        raise ConfigError(f"{folder}: is not there; give run directories, or a folder that holds some")
    raise ConfigError(f"{folder}: holds no run of d3gan; give run directories, or a folder that holds some")
