"""What ``d3gan compare`` is told. Imports no torch, so that its help answers at once."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from d3gan.comparison.variants import variant_name
from d3gan.config.shared_flags import ConfigFile, Debug, Preset
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import key
from d3gan.errors import ConfigError, nearest

_SEEDS = 3
# From the controlled DCGAN, one change at a time; D3GAN's second discriminator comes with swap and selection.
ABLATION = (
    "dcgan-controlled",
    "dcgan-controlled+activation=mish",
    "dcgan-controlled+schedule=linear",
    "d3gan-controlled",
    "d3gan-controlled+discriminators=3",
    "d3gan-controlled+pairing=own",
    "d3gan-controlled+selection=argmin",
)


@dataclass(frozen=True)
class GridFlags:
    """Which runs there are to be; shown before the flags that all of them share."""

    models: tuple[str, ...] = ()
    """Models to compare; NAME+key=value changes one key. Empty: --model, and dcgan where that has two."""
    datasets: tuple[str, ...] = ()
    """Data sets. Empty: --dataset."""
    batch_sizes: tuple[int, ...] = key((), allowed=(2, None))
    """Batch sizes. Empty: --batch-size."""
    seeds: tuple[int, ...] = key((), allowed=(0, None))
    """Seeds; intervals need three or more. Empty: --seed and the two after it."""
    ablation: bool = False
    """Compare activation, schedule, discriminators (1, 2, 3), pairing and selection with dcgan-controlled."""
    equal: Literal["iterations", "flops"] = "iterations"
    """What all runs spend alike; flops gives the models with fewer discriminators more steps."""
    against: str = ""
    """Variant that all others are compared with. Empty: each d3gan with its dcgan."""
    runs: tuple[str, ...] = ()
    """Further run directories to compare with, trained before."""
    scaling: str = ""
    """Folder that `d3gan scale` wrote, whose figures go along. Empty: none."""
    at_once: int = key(0, allowed=(0, 1024))
    """Runs at the same time. 0: one for each GPU; on CPUs one for each two cores, or each core of a small machine."""
    dry_run: bool = False
    """Say which runs there are to be, and how far they are; train nothing."""


@dataclass(frozen=True)
class Compare(TrainConfig, GridFlags):
    """Train a grid of runs, or find or resume them, and say whether the second discriminator pays."""

    out: str = "comparison"
    """Folder: runs, logs, comparison.json, figures, animations and report.html. What is there already goes on."""
    config: ConfigFile = ""
    preset: Preset = ""
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks what the grid is made of."""
        super().__post_init__()
        if self.ablation and self.models:
            raise ConfigError("--ablation and --models: give one of them; --ablation has models of its own")
        # What the user wrote is checked here, before what a comparison needs beside it.
        known, _ = self.variant_names, self.counterpart
        if not self.runs:  # else it may be one of those, which are read later
            self.check_against(known)

    def check_against(self, known: Sequence[str]) -> None:
        """Refuses a counterpart that is none of the variants.

        Args:
            known: the variants' names.

        Raises:
            ConfigError: it is none of them.
        """
        if self.against and self.counterpart not in known:
            hint, names = nearest(self.against, known), ", ".join(known)
            raise ConfigError(f"--against {self.against}: is none of the variants{hint}; there are: {names}")

    @property
    def variants(self) -> dict[str, str]:
        """The variants: name -> the first word that means it.

        Raises:
            ConfigError: a word means no variant.
        """
        found: dict[str, str] = {}
        for word in self._words:
            found.setdefault(variant_name(self.shared, word), word)
        return found

    @property
    def variant_names(self) -> list[str]:
        """The variants, each once, by the names that a comparison calls them by."""
        return list(self.variants)

    @property
    def repeated(self) -> list[str]:
        """A line for each word that means the same variant as one before it."""
        variants, seen, lines = self.variants, set[str](), []
        for word in self._words:
            name = variant_name(self.shared, word)
            if name in seen:
                lines.append(f"{word} is the same variant as {variants[name]} here; it is trained once")
            seen.add(name)
        return lines

    @property
    def _words(self) -> Sequence[str]:
        """The variants as they were written."""
        twin = self.model.replace("d3gan", "dcgan")
        return ABLATION if self.ablation else self.models or (twin, twin.replace("dcgan", "d3gan"))

    @property
    def counterpart(self) -> str:
        """What all are compared with, by its name; empty: each with its own."""
        word = self.against or (ABLATION[0] if self.ablation else "")
        return variant_name(self.shared, word, "--against") if word else ""

    @property
    def grid_seeds(self) -> list[int]:
        """The seeds, each once."""
        return list(dict.fromkeys(self.seeds or range(self.seed, self.seed + _SEEDS)))

    @property
    def train_config(self) -> TrainConfig:
        """What all runs share; those of a comparison are evaluated, and sampled when they are evaluated.

        Raises:
            ConfigError: the config asks for no evaluation, and does not say how long a run is.
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
