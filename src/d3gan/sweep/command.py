"""``d3gan compare`` from its options to the page: the runs, the comparison, the figures, the animations."""

import logging
import signal
from dataclasses import dataclass
from pathlib import Path

from d3gan.comparison.animation import write_animations
from d3gan.comparison.compare import compare_runs, write_comparison
from d3gan.comparison.plots_training import scaling_drawings
from d3gan.comparison.runs import read_runs
from d3gan.config.datasets import POINT_SETS
from d3gan.config.train_config import TrainConfig
from d3gan.data.locate import resolve_dataset
from d3gan.errors import ConfigError
from d3gan.files import refuse_unwritable
from d3gan.report.write import write_page
from d3gan.runs.directory import RunDirectory, find_run
from d3gan.sweep.options import Compare
from d3gan.sweep.plan import plan_lines, sweep_configs
from d3gan.sweep.scheduler import RunResult, Scheduler, slots_for

logger = logging.getLogger("d3gan")


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended."""

    failed: list[RunResult]
    verdict: str = ""
    """Empty: no run could be compared."""
    page: Path | None = None
    stopped_by: signal.Signals | None = None


def run_sweep(options: Compare) -> SweepResult:
    """Trains the runs that are missing, then compares all of them.

    Args:
        options: what to compare.

    Raises:
        ConfigError: a value does not fit.
        ExternalError: a file cannot be written, or a finished run cannot be read.
    """
    configs, folder = _checked_configs(options), Path(options.out)
    refuse_unwritable(folder)
    for line in options.repeated:
        logger.info(line)
    slots = slots_for(options.at_once, options.device, len(configs))
    logger.info(f"{len(configs)} runs in {folder / 'runs'}, {len(slots)} at a time")
    scheduler = Scheduler(configs, folder, slots)
    failed = [result for result in scheduler.run() if result.failure]
    if scheduler.stopped_by is not None:
        return SweepResult(failed, stopped_by=scheduler.stopped_by)
    paths = [Path(out) for out in (*(config.out for config in configs), *options.runs)]
    paths = [path for path in paths if RunDirectory(path).evaluations.exists()]
    if not paths:
        return SweepResult(failed)
    logger.info("comparing the runs and drawing the figures")
    baseline = options.baseline
    if baseline and baseline not in {run.variant for run in read_runs(paths, options.shared)}:
        logger.info(f"{baseline}: has no evaluated run, so the others are compared as without --against")
        baseline = ""
    comparison = compare_runs(paths, against=baseline, scaling=options.scaling, base=options.shared)
    write_comparison(comparison, folder)
    logger.info("drawing the animations")
    write_animations(comparison.runs, folder / "animations")
    logger.info("writing the page")
    return SweepResult(failed, comparison.verdict, write_page(comparison, [folder], folder / "report.html"))


def dry_run(options: Compare) -> list[str]:
    """What ``--dry-run`` prints: a line for each variant that was given twice, then one for each run of the sweep.

    Raises:
        ConfigError: a value does not fit.
    """
    configs = _checked_configs(options)
    return [*options.repeated, *plan_lines(configs)]


def _checked_configs(options: Compare) -> list[TrainConfig]:
    """The runs. First checks that everything else the comparison needs is there, so that training is not wasted."""
    for run in options.runs:
        if not find_run(run).evaluations.exists():
            raise ConfigError(f"--runs {run}: was never evaluated (d3gan train --evaluate-every); leave it out")
    if options.scaling:
        scaling_drawings(options.scaling)
    for dataset in options.datasets or (options.dataset,):
        if dataset not in POINT_SETS:  # which need no files
            resolve_dataset(dataset)
    if options.runs and options.against:
        others = read_runs([Path(run) for run in options.runs], options.shared)
        options.check_against([*options.variants, *(run.variant for run in others)])
    return sweep_configs(options)
