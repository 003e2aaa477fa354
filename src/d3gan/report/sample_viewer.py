"""Sample grids side by side: one slider moves the runs of one data set and batch size, in one row for each seed."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from d3gan.comparison.runs import Run
from d3gan.errors import ExternalError
from d3gan.report.embedded_images import EmbeddedImage, embedded

FRAMES = 24
"""Most sample grids of a run that the page shows; evenly spread, the first and the last among them."""
SEEDS = 3
"""Most seeds of a data set and batch size whose sample grids the page shows; the lowest ones."""


@dataclass(frozen=True)
class RunGrids:
    """A run's sample grids: the page's markup holds the last one; the slider finds the others by their keys."""

    name: str
    who: str
    frames: Sequence[tuple[int, int]]
    """Step and key of the image."""
    last: EmbeddedImage

    @property
    def last_step(self) -> int:
        """The step of the last image."""
        return self.frames[-1][0]

    @property
    def last_key(self) -> int:
        """The key of the last image."""
        return self.frames[-1][1]


@dataclass
class Row:
    """The runs of one seed."""

    seed: int
    grids: list[RunGrids]


@dataclass
class SliderGroup:
    """The sample grids that one slider moves."""

    title: str
    rows: list[Row]

    @property
    def steps(self) -> list[int]:
        """All steps at which one of the runs has a grid."""
        return sorted({step for row in self.rows for grids in row.grids for step, _ in grids.frames})


@dataclass(frozen=True)
class SampleViewer:
    """All sample grids that the page shows."""

    groups: list[SliderGroup]
    """In order of data set and batch size; their rows in order of the seed."""
    frames: dict[int, str]
    """Key -> ``data:`` URI of every image that the markup of no group holds."""
    unreadable: list[str]
    """A remark for each run that has sample grids which cannot be read."""
    left_out: list[str]
    """At most two predicates of the page: which sample grids ``FRAMES`` and ``SEEDS`` leave out."""


def sample_viewer(runs: Iterable[Run]) -> SampleViewer:
    """Reads the sample grids of runs and arranges them.

    Args:
        runs: in the order in which each row shows them.
    """
    runs = [run for run in runs if run.sample_grids]
    runs.sort(key=lambda run: (run.dataset, run.config.batch_size, run.config.seed))
    groups: list[SliderGroup] = []
    unreadable: list[str] = []
    keys: dict[str, int] = {}  # data: URI -> key
    most_seeds = 0
    for (dataset, size), group in itertools.groupby(runs, lambda run: (run.dataset, run.config.batch_size)):
        seeds = [(seed, list(row)) for seed, row in itertools.groupby(group, lambda run: run.config.seed)]
        rows = [Row(seed, _run_grids(row, keys, unreadable)) for seed, row in seeds[:SEEDS]]
        if any(row.grids for row in rows):
            groups.append(SliderGroup(f"{dataset}, batch size {size:,}", [row for row in rows if row.grids]))
        most_seeds = max(most_seeds, len(seeds))
    in_markup = {grids.last_key for group in groups for row in group.rows for grids in row.grids}
    frames = {key: uri for uri, key in keys.items() if key not in in_markup}
    left_out = []
    if (most_grids := max((len(run.sample_grids) for run in runs), default=0)) > FRAMES:
        left_out.append(f"shows {FRAMES} of up to {most_grids} sample grids per run")
    if most_seeds > SEEDS:
        left_out.append(f"shows the sample grids of {SEEDS} of up to {most_seeds} seeds")
    return SampleViewer(groups, frames, unreadable, left_out)


def _run_grids(runs: Sequence[Run], keys: dict[str, int], unreadable: list[str]) -> list[RunGrids]:
    """The sample grids of one row; adds the images to ``keys`` and a remark on damaged files to ``unreadable``."""
    row = []
    for run in runs:
        last, count = len(run.sample_grids) - 1, min(FRAMES, len(run.sample_grids))
        frames, damaged = [], []
        for i in np.unique(np.linspace(0, last, count).round().astype(int)):
            step, path = run.sample_grids[i]
            try:
                image = embedded(path)
            except ExternalError:
                damaged.append(path.name)
            else:
                frames.append((step, keys.setdefault(image.uri, len(keys))))
        if damaged:
            unreadable.append(f"{run.name}: sample grids that cannot be read are left out: {', '.join(damaged)}.")
        if frames:
            row.append(RunGrids(run.variant, f"{run.variant}, seed {run.config.seed}", frames, image))
    return row
