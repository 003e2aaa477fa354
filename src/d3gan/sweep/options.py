"""The options of ``d3gan compare``. Imports no torch, so that its help answers at once."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from d3gan.comparison.variants import split_variants, variant_name
from d3gan.config.help import Help
from d3gan.config.recipes import BASELINES
from d3gan.config.shared_flags import ConfigFile, Debug, Preset, TrustFeatures
from d3gan.config.train_config import TrainConfig
from d3gan.config.train_help import GROUPS, SOURCE_FLAGS, USUAL
from d3gan.config.validation import key
from d3gan.errors import ConfigError, nearest

_SEEDS = 3
# From the controlled DCGAN, one change at a time; D3GAN's second discriminator comes with swap and weighting.
ABLATION = (
    "dcgan-controlled",
    "dcgan-controlled+activation=mish",
    "dcgan-controlled+schedule=linear",
    "d3gan-controlled",
    "d3gan-controlled+discriminators=3",
    "d3gan-controlled+pairing=own",
    "d3gan-controlled+weighting=argmin",
)


@dataclass(frozen=True)
class SweepFlags:
    """Which runs to train and compare; shown before the flags that all runs share."""

    models: tuple[str, ...] = key((), split=split_variants)
    """Models to compare; NAME+key=value changes one key. Default: --model and its baseline."""
    datasets: tuple[str, ...] = ()
    """Data sets. Default: --dataset."""
    batch_sizes: tuple[int, ...] = key((), allowed=(2, None))
    """Batch sizes. Default: --batch-size."""
    seeds: tuple[int, ...] = key((), allowed=(0, None))
    """Seeds; intervals need three or more. Default: --seed and the two after it."""
    ablation: bool = False
    """Compare activation, schedule, discriminators (1, 2, 3), pairing and weighting with dcgan-controlled."""
    equal: Literal["iterations", "flops"] = "iterations"
    """What all runs spend the same amount of; flops gives models with fewer discriminators more steps."""
    against: str = ""
    """Baseline of all other variants. Default: the baseline of each d3gan is its dcgan."""
    runs: tuple[str, ...] = ()
    """More run directories to compare, trained before."""
    scaling: str = ""
    """Folder that `d3gan scale` wrote, whose figures to include. Default: none."""
    at_once: int = key(0, allowed=(0, 1024))
    """Runs at the same time. 0: one per GPU; on CPUs one per two cores, with up to four cores one per core."""
    dry_run: bool = False
    """List the runs and how far they are; train nothing."""


@dataclass(frozen=True)
class Compare(TrainConfig, SweepFlags):
    """Train the runs of a sweep, or resume them, and tell whether the second discriminator pays."""

    HELP: ClassVar[Help] = Help(
        {
            "comparison": "models datasets batch_sizes seeds ablation equal against runs scaling at_once dry_run",
            "config": SOURCE_FLAGS,
        }
        | GROUPS
        | {"output": f"{GROUPS['output']} debug"},
        USUAL
        | {
            "models": "what to compare; NAME+key=value changes a key",
            "datasets": "data sets; by default --dataset",
            "seeds": "three or more for intervals",
            "ablation": "one change at a time, from dcgan-controlled",
            "at_once": "runs at the same time; 0: as fits",
            "dry_run": "list the runs, train nothing",
            "out": "folder of runs, figures and the page",
        },
        (
            "--models dcgan d3gan --dataset mnist --seeds 0 1 2 --max-steps 5000",
            "--models d3gan d3gan+weighting=mean --max-steps 5000",
            "--preset mnist-demo --out runs/demo",
        ),
    )

    out: str = "comparison"
    """Folder of runs, logs, comparison.json, figures, animations and report.html. Stopped runs in it are resumed."""
    config: ConfigFile = ""
    preset: Preset = ""
    trust_features: TrustFeatures = False
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks the values that make up the sweep."""
        super().__post_init__()
        if self.ablation and self.models:
            raise ConfigError("--ablation and --models: give one of them; --ablation has models of its own")
        # Before ``train_config`` asks for anything else, so that the user's own mistakes are named first.
        names, _ = list(self.variants), self.baseline
        if not self.runs:  # else the baseline may be one of those, which are read later
            self.check_against(names)

    def check_against(self, names: Sequence[str]) -> None:
        """Checks that the baseline is one of the variants.

        Args:
            names: the variants' names.

        Raises:
            ConfigError: it is none of them.
        """
        if self.against and self.baseline not in names:
            hint, listed = nearest(self.against, names), ", ".join(names)
            raise ConfigError(f"--against {self.against}: is none of the variants{hint}; there are: {listed}")

    @property
    def variants(self) -> dict[str, str]:
        """The variants, named as in a comparison: name -> the first word that means it.

        Raises:
            ConfigError: a word means no variant.
        """
        words: dict[str, str] = {}
        for word in self._words:
            words.setdefault(variant_name(self.shared, word), word)
        return words

    @property
    def repeated(self) -> list[str]:
        """A line for each word that means the same variant as one before it."""
        lines, names = [], set[str]()
        for word in self._words:
            name = variant_name(self.shared, word)
            if name in names:
                lines.append(f"{word} is the same variant as {self.variants[name]} here; it is trained once")
            names.add(name)
        return lines

    @property
    def _words(self) -> Sequence[str]:
        """The variants as they were written."""
        if self.ablation or self.models:
            return ABLATION if self.ablation else self.models
        if self.model in BASELINES:
            return BASELINES[self.model][0], self.model
        return self.model, next(model for model, baselines in BASELINES.items() if self.model in baselines)

    @property
    def baseline(self) -> str:
        """The name of the baseline of all other variants; empty: each has its own."""
        word = self.against or (ABLATION[0] if self.ablation else "")
        return variant_name(self.shared, word, "--against") if word else ""

    @property
    def sweep_seeds(self) -> list[int]:
        """The seeds, each once."""
        return list(dict.fromkeys(self.seeds or range(self.seed, self.seed + _SEEDS)))

    @property
    def train_config(self) -> TrainConfig:
        """What all runs share. The runs of a comparison are evaluated, and sampled as often.

        Raises:
            ConfigError: neither ``evaluate_every`` nor ``max_steps`` is given.
        """
        if not self.evaluate_every and not self.max_steps:
            raise ConfigError(
                "evaluate_every = 0: a comparison needs evaluations; give --evaluate-every, such as 1000"
            )
        every = self.evaluate_every or max(1, self.max_steps // 10)
        return dataclasses.replace(self.shared, evaluate_every=every, sample_every=self.sample_every or every)

    @property
    def shared(self) -> TrainConfig:
        """The flags and keys of ``d3gan train``, for all runs."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)}
        return TrainConfig(**(values | {"out": ""}))
