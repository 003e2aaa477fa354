"""Runs in order: by data set and batch size, then by variant, then by seed; and which variants are compared."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, cast

from d3gan.comparison.runs import Run
from d3gan.comparison.variants import RECIPE_KEYS, parse_variant, variant_of
from d3gan.config.recipes import BASELINES, Model, Recipe
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, nearest
from d3gan.evaluation.metric_names import PUBLISHED_FID, metrics_of


@dataclass(frozen=True)
class Condition:
    """Runs that differ only in variant and seed."""

    dataset: str
    batch_size: int
    """Of all processes together, without what a variant accumulates."""
    variants: dict[str, dict[int, Run]]
    """Variant -> seed -> run; those with the fewest discriminators first."""

    @property
    def name(self) -> str:
        """For people: ``mnist, batch size 64``."""
        return f"{self.dataset}, batch size {self.batch_size}"

    @property
    def dataset_slug(self) -> str:
        """The data set in file names."""
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in self.dataset)

    @property
    def slug(self) -> str:
        """For file names: ``mnist-b64``."""
        return f"{self.dataset_slug}-b{self.batch_size}"

    @property
    def runs(self) -> list[Run]:
        """All of them."""
        return [run for runs in self.variants.values() for run in runs.values()]

    def recipe(self, variant: str) -> Recipe:
        """What all runs of a variant are made by."""
        return next(iter(self.variants[variant].values())).config.recipe

    def differ_in_discriminators_alone(self, *variants: str) -> bool:
        """Whether two variants have different numbers of discriminators, and else the same losses and rates.

        What only several discriminators have may differ: pairing, weighting and views.
        """
        a, b = (self.recipe(variant) for variant in variants)
        same = (a.loss, a.activation, a.schedule) == (b.loss, b.activation, b.schedule)
        same = same and (a.microbatch_alpha, a.duel_beta) == (b.microbatch_alpha, b.duel_beta)
        same = same and a.discriminators != b.discriminators
        # Of the names, what no recipe holds: device=cpu, lr=0.001.
        changes = (variant.split("+")[1:] for variant in variants)
        ours, theirs = ([c for c in each if c.partition("=")[0] not in RECIPE_KEYS] for each in changes)
        return same and ours == theirs

    def pairs(self, against: str = "") -> list[tuple[str, str]]:
        """Which variants are compared: (variant, baseline).

        Args:
            against: the baseline of all others. Empty: the baselines of a variant are those of its model with the
                same changes (``d3gan.config.recipes.BASELINES``), and of other variants with more discriminators than
                the first one, that first one. Where that makes no pair, the first is the baseline of all. Pairs that
                differ in discriminators alone come first.
        """
        names = list(self.variants)
        if against:
            return [(name, against) for name in names if name != against] if against in names else []
        fewest = self.recipe(names[0]).discriminators
        pairs = []
        for name in names:
            model, *changes = name.split("+")
            twins = ["+".join([twin, *changes]) for twin in BASELINES.get(cast(Model, model), ())]
            known = [(name, twin) for twin in twins if twin in names]
            more = self.recipe(name).discriminators > fewest
            pairs += known or ([(name, names[0])] if more else [])
        pairs = pairs or [(name, names[0]) for name in names[1:]]
        return sorted(pairs, key=lambda pair: not self.differ_in_discriminators_alone(*pair))


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Runs as every table, legend and row of samples shows them: variants with the fewest discriminators first."""
    return sorted(
        runs,
        key=lambda run: (
            run.dataset,
            run.batch_size or run.global_batch_size,
            run.config.recipe.discriminators,
            run.variant,
            run.config.seed,
        ),
    )


def conditions_of(runs: Sequence[Run]) -> list[Condition]:
    """Sorts runs into conditions; of two runs of a variant with one seed the longer one counts."""
    groups: dict[tuple[str, int], dict[str, dict[int, Run]]] = {}
    for run in in_order(runs):
        variants = groups.setdefault((run.dataset, run.batch_size or run.global_batch_size), {})
        seeds = variants.setdefault(run.variant, {})
        other = seeds.get(run.config.seed)
        if other is None or run.last_step > other.last_step:
            seeds[run.config.seed] = run
    return [Condition(*key, variants) for key, variants in groups.items()]


def check_against(conditions: Sequence[Condition], against: str) -> str:
    """The name of the baseline, however it is written: ``dcgan+lr=1e-3`` is ``dcgan+lr=0.001``.

    Raises:
        ConfigError: no condition has it.
    """
    names = sorted({name for condition in conditions for name in condition.variants})
    if against in ("", *names):
        return against
    with suppress(ConfigError):
        model, values = parse_variant(against, "--against")
        if (name := variant_of(TrainConfig(model=model, **values), values)) in names:  # type: ignore[arg-type]
            return name
    raise ConfigError(f"--against {against}: no such run{nearest(against, names)}; there are: {', '.join(names)}")


class MetricNames(NamedTuple):
    """What the runs on a data set are compared by."""

    distance: str
    """What variants are compared by: of data whose modes are known the reverse KL, else FID; empty: no run has it."""
    others: tuple[str, ...] = ()
    """Shown beside it: modes and high-quality share, FID, Inception Score."""

    @property
    def all(self) -> tuple[str, ...]:
        """The names that are not empty."""
        return tuple(filter(None, (self.distance, *self.others)))


def metrics_by_dataset(runs: Sequence[Run]) -> dict[str, MetricNames]:
    """For each data set its metrics; of one with several extractors or references the name that most runs have."""
    metrics = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        counts = Counter(
            name
            for run in runs
            if run.dataset == dataset
            for name in metrics_of(run.evaluation)
            if name != PUBLISHED_FID
        )
        found = {}
        for metric in ("kl", "modes", "quality", "fid", "is"):
            names = [name for name in sorted(counts) if name.startswith(f"{metric}_")]
            if names:
                found[metric] = max(names, key=lambda name: counts[name])
        distance = found.pop("kl", "") or found.pop("fid", "")
        metrics[dataset] = MetricNames(distance, tuple(found.values()))
    return metrics
