"""Runs in order: by data set and batch size, then by variant, then by seed; and who is compared with whom."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from d3gan.comparison.runs import Run
from d3gan.comparison.variants import parse_variant, variant_of
from d3gan.config.train_config import Recipe, TrainConfig
from d3gan.errors import ConfigError, nearest
from d3gan.evaluation.metric_names import PUBLISHED_FID, metrics_of


@dataclass(frozen=True)
class Setting:
    """Runs that differ in variant and seed alone."""

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
    def slug(self) -> str:
        """For file names: ``mnist-b64``."""
        return f"{''.join(c if c.isalnum() or c in '-_.' else '-' for c in self.dataset)}-b{self.batch_size}"


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """Sorts runs into settings; of two runs of one seed the longer one counts."""
    found: dict[tuple[str, int], dict[str, dict[int, Run]]] = {}
    for run in sorted(runs, key=lambda run: (run.config.recipe.discriminators, run.variant, run.config.seed)):
        seeds = found.setdefault((run.dataset, run.batch_size or images_a_step(run)), {}).setdefault(run.variant, {})
        other = seeds.get(run.config.seed)
        if other is None or last_step(run) > last_step(other):
            seeds[run.config.seed] = run
    return [Setting(*place, variants) for place, variants in sorted(found.items())]


def images_a_step(run: Run) -> int:
    """Real images a step, of all processes."""
    found = run.metrics[-1].get("global_batch_size") if run.metrics else None
    return found if isinstance(found, int) and found > 0 else run.config.batch_size * run.config.grad_accum_steps


def last_step(run: Run) -> int:
    """The last step that the run tells of."""
    return max((int(lines[-1]["step"]) for lines in (run.metrics, run.evaluations) if lines), default=0)


def _main_figure(runs: Sequence[Run], metric: str) -> str:
    """The name under which most runs have a metric (``fid``, ``is``); empty: none has it."""
    found = Counter[str]()
    for run in runs:
        names = {name for line in run.evaluations for name in metrics_of(line)}
        found.update(name for name in names if name.partition("_")[0] == metric and name != PUBLISHED_FID)
    return max(sorted(found), key=lambda name: found[name], default="")


class Figures(NamedTuple):
    """What the runs on a data set are compared by: names in their evaluations, empty where there is none."""

    fid: str
    score: str
    """The Inception Score."""


def figures_by_dataset(runs: Sequence[Run]) -> dict[str, Figures]:
    """For each data set the Fréchet distance and the Inception Score that most of its runs have."""
    found = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset]
        found[dataset] = Figures(_main_figure(own, "fid"), _main_figure(own, "is"))
    return found


def pairs_of(setting: Setting, against: str) -> list[tuple[str, str]]:
    """Which variants are compared with which: (variant, counterpart).

    Args:
        setting: its variants.
        against: the counterpart of all others. Empty: ``d3gan…`` is compared with the ``dcgan…`` of the same ending,
            and other variants of more discriminators than the first one with that. Where that makes no pair, all are
            compared with the first. The controlled pair comes first.
    """
    names = list(setting.variants)
    discriminators = {
        n: next(iter(runs.values())).config.recipe.discriminators for n, runs in setting.variants.items()
    }
    if against:
        return [(name, against) for name in names if name != against] if against in names else []
    twins = {name: name.replace("d3gan", "dcgan", 1) for name in names}
    more = [name for name in names if discriminators[name] > discriminators[names[0]]]
    pairs = [(name, twins[name] if twins[name] in names and twins[name] != name else names[0]) for name in more]
    pairs = pairs or [(name, names[0]) for name in names[1:]]
    return sorted(pairs, key=lambda pair: not differ_in_discriminators_alone(setting, *pair))


def differ_in_discriminators_alone(setting: Setting, *names: str) -> bool:
    """Whether two variants of a setting have another number of discriminators, and else the same recipe and rules."""
    a, b = (next(iter(setting.variants[name].values())).config.recipe for name in names)
    same = (a.activation, a.schedule) == (b.activation, b.schedule) and a.discriminators != b.discriminators
    ours, theirs = (_beside_the_recipe(name) for name in names)
    return same and ours == theirs


def _beside_the_recipe(name: str) -> list[str]:
    """The keys and values in a variant's name that no recipe has: those of device=cpu, lr=0.001."""
    recipe = {field.name for field in dataclasses.fields(Recipe)}
    return [change for change in name.split("+")[1:] if change.partition("=")[0] not in recipe]


def check_against(settings: Sequence[Setting], against: str) -> str:
    """The name of the counterpart, however it is written: ``dcgan+lr=1e-3`` is ``dcgan+lr=0.001``.

    Raises:
        ConfigError: no setting has it.
    """
    known = sorted({name for setting in settings for name in setting.variants})
    if against in ("", *known):
        return against
    with suppress(ConfigError):
        model, values = parse_variant(against, "--against")
        if (name := variant_of(TrainConfig(model=model, **values), values)) in known:  # type: ignore[arg-type]
            return name
    raise ConfigError(f"--against {against}: no such run{nearest(against, known)}; there are: {', '.join(known)}")
