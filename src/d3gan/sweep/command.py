"""``d3gan compare`` from its options to the page: the runs, the comparison, the figures, the animations."""

import logging
import signal
from dataclasses import dataclass
from pathlib import Path

from d3gan.comparison.animation import write_animations
from d3gan.comparison.compare import compare_runs, write_comparison
from d3gan.comparison.plots_outcomes import scaling_drawings
from d3gan.comparison.runs import read_runs
from d3gan.config.train_config import TrainConfig
from d3gan.data.locate import resolve_dataset
from d3gan.errors import ConfigError
from d3gan.files import refuse_unwritable
from d3gan.report.write import write_page
from d3gan.runs.directory import RunDirectory, find_run
from d3gan.sweep.grid import grid_of, plan_of
from d3gan.sweep.options import Compare
from d3gan.sweep.scheduler import Ended, Grid, places_for

logger = logging.getLogger("d3gan")


@dataclass(frozen=True)
class Study:
    """What became of a comparison."""

    failed: list[Ended]
    verdict: str
    """Empty: no run could be compared."""
    page: Path | None
    stopped_by: signal.Signals | None


def study(options: Compare) -> Study:
    """Trains what is missing, then compares what there is.

    Args:
        options: what to compare.

    Raises:
        ConfigError: a value does not fit.
        ExternalError: a file cannot be written, or a finished run not be read.
    """
    configs, folder = _grid(options), Path(options.out)
    refuse_unwritable(folder)
    for line in options.repeated:
        logger.info(line)
    places = places_for(options.at_once, options.device, len(configs))
    logger.info(f"{len(configs)} runs in {folder / 'runs'}, {len(places)} at a time")
    grid = Grid(configs, folder, places)
    ended = grid.run()
    failed = [run for run in ended if run.failure]
    if grid.stopped_by is not None:
        return Study(failed, "", None, grid.stopped_by)
    found = [Path(config.out) for config in configs] + [Path(run) for run in options.runs]
    paths = [path for path in found if RunDirectory(path).evaluations.exists()]
    if not paths:
        return Study(failed, "", None, None)
    logger.info("drawing")
    against = options.counterpart
    if against and against not in {run.variant for run in read_runs(paths, options.shared)}:
        logger.info(f"{against}: has no evaluated run, so the others are compared as without --against")
        against = ""
    comparison = compare_runs(paths, against=against, scaling=options.scaling, base=options.shared)
    write_comparison(comparison, folder)
    write_animations(comparison.runs, folder / "animations")
    return Study(failed, comparison.verdict, write_page(comparison, [folder], folder / "report.html"), None)


def planned(options: Compare) -> list[str]:
    """A line for each run of the grid, of which nothing is trained; before them one for each variant given twice.

    Raises:
        ConfigError: a value does not fit.
    """
    configs = _grid(options)
    return [*options.repeated, *plan_of(configs)]


def _grid(options: Compare) -> list[TrainConfig]:
    """The runs, once it is sure that what goes along with them is there: not after hours of training."""
    for run in options.runs:
        if not find_run(run).evaluations.exists():
            raise ConfigError(f"--runs {run}: was never evaluated (d3gan train --evaluate-every); leave it out")
    if options.scaling:
        scaling_drawings(options.scaling)
    for dataset in options.datasets or (options.dataset,):
        resolve_dataset(dataset)
    if options.runs and options.against:
        others = read_runs([Path(run) for run in options.runs], options.shared)
        options.check_against([*options.variant_names, *(run.variant for run in others)])
    return grid_of(options)
