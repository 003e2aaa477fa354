"""Sample grids side by side: the runs of one data set and batch size form a group, those of one seed a row of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from d3gan.report.embedded_images import Grids, Plan, checksum, data_uri


@dataclass(frozen=True)
class ShownGrids:
    """A run's grids in the page: the last one stands there, the others are found by their keys."""

    name: str
    who: str
    frames: Sequence[tuple[int, int]]
    """Step and key of the image."""
    last_uri: str
    width: int
    height: int

    @property
    def last_step(self) -> int:
        """The step of the image that stands there."""
        return self.frames[-1][0]

    @property
    def last_key(self) -> int:
        """The key of the image that stands there."""
        return self.frames[-1][1]


@dataclass
class Row:
    """The runs of one seed."""

    seed: int
    grids: list[ShownGrids]


@dataclass
class Group:
    """What one slider moves."""

    title: str
    rows: list[Row]

    @property
    def steps(self) -> list[int]:
        """All steps at which one of the runs has a grid."""
        return sorted({step for row in self.rows for grid in row.grids for step, _ in grid.frames})


class _Store:
    """Images by key; equal ones have one key."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._keys: dict[str, int] = {}

    def key(self, content: bytes) -> int:
        mark = checksum(content)
        if mark not in self._keys:
            self._keys[mark] = len(self.uris)
            self.uris.append(data_uri(content))
        return self._keys[mark]


def sample_groups(all_grids: Iterable[Grids], plan: Plan) -> tuple[list[Group], dict[int, str]]:
    """The groups in order of data set, batch size and seed, and key -> ``data:`` URI of what stands in none of them.

    Args:
        all_grids: of the runs, in the order in which they stand beside one another.
        plan: which grids are shown, and how finely.
    """
    store = _Store()
    groups: dict[tuple[str, int], Group] = {}
    for grids in sorted(all_grids, key=lambda each: (each.run.dataset, each.run.config.batch_size)):
        config = grids.run.config
        where = (grids.run.dataset, config.batch_size)
        group = groups.setdefault(where, Group(f"{where[0]}, batch size {where[1]:,}", []))
        row = next((row for row in group.rows if row.seed == config.seed), None)
        if row is None:
            row = Row(config.seed, [])
            group.rows.append(row)
            group.rows.sort(key=lambda each: each.seed)
        row.grids.append(_shown(grids, plan, store))
    shown = {grid.last_key for group in groups.values() for row in group.rows for grid in row.grids}
    return list(groups.values()), {key: uri for key, uri in enumerate(store.uris) if key not in shown}


def _shown(grids: Grids, plan: Plan, store: _Store) -> ShownGrids:
    run, kept = grids.run, grids.kept(plan)
    frames = [(step, store.key(picture.webp(plan.quality, plan.scale))) for step, picture in kept]
    with Image.open(kept[-1][1].path) as image:
        width, height = image.size
    who = f"{run.variant}, seed {run.config.seed}"
    return ShownGrids(run.variant, who, frames, store.uris[frames[-1][1]], width, height)
