"""From run directories to runs that can be compared."""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from d3gan.comparison.columns import Columns, columns_of, training_columns
from d3gan.comparison.variants import LASTING_KEYS, VARIANT_KEYS, variant_of
from d3gan.config.ini import load_config
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.runs.directory import find_run
from d3gan.runs.environment import read_environment
from d3gan.runs.jsonl import read_lines


@dataclass(frozen=True)
class Run:
    """A run directory as read, and its files as columns."""

    path: Path
    config: TrainConfig
    """As resolved."""
    variant: str
    """What is compared: the model's name, then the keys in which the run differs from its recipe."""
    dataset: str
    """The images' name in environment.json, such as cifar10-jpeg-train; never a path."""
    sessions: Sequence[Mapping[str, Any]]
    """environment.json, one mapping per session."""
    metrics: Sequence[Mapping[str, Any]]
    """Whole lines of metrics.jsonl, in order of the step."""
    evaluations: Sequence[Mapping[str, Any]]
    """Whole lines of evaluations.jsonl, in order of the step."""
    sample_grids: Sequence[tuple[int, Path]]
    """Step and file."""
    batch_size: int = 0
    """Real images per step of all processes, without what its variant accumulates; 0: as its metrics say."""

    @cached_property
    def training(self) -> Columns:
        """metrics.jsonl; see ``training_columns``."""
        return training_columns(self.metrics, self.config)

    @cached_property
    def ticks(self) -> Columns:
        """``training`` without a last line of fewer steps than ``log_every``, whose means vary more."""
        is_short = len(self.metrics) > 1 and self.metrics[-1]["step"] % self.config.log_every != 0
        return {name: values[:-1] for name, values in self.training.items()} if is_short else self.training

    @cached_property
    def evaluation(self) -> Columns:
        """evaluations.jsonl; see ``columns_of``."""
        return columns_of(self.evaluations, self.config)

    @property
    def name(self) -> str:
        """The folder's name, which may hold any character that a file name may."""
        return self.path.resolve().name

    @property
    def last_step(self) -> int:
        """The last step in the run's files."""
        return max((int(lines[-1]["step"]) for lines in (self.metrics, self.evaluations) if lines), default=0)

    @property
    def images_per_step(self) -> int:
        """Real images per step, of all processes."""
        return self.global_batch_size * self.config.d_steps

    @property
    def global_batch_size(self) -> int:
        """Real images per update of the discriminators, of all processes."""
        size = self.metrics[-1].get("global_batch_size") if self.metrics else None
        return size if isinstance(size, int) and size > 0 else self.config.batch_size * self.config.grad_accum_steps

    @property
    def images_per_second(self) -> float | None:
        """The median over the logged lines, without the first where there are more: the run warms up."""
        rates = [float(rate) for rate in self.training.get("images_per_second", ()) if rate == rate]
        return statistics.median(rates[1:] or rates) if rates else None

    @property
    def world_size(self) -> int:
        """Processes of the last session."""
        size = self.sessions[-1].get("world_size") if self.sessions else None
        return size if isinstance(size, int) and size > 0 else 1

    @property
    def batches_per_step(self) -> int:
        """Of all processes."""
        return self.config.grad_accum_steps * self.world_size

    @property
    def varied_keys(self) -> set[str]:
        """The keys that the folder's name holds as ``+key=``."""
        return {key for key in VARIANT_KEYS if f"+{key}=" in self.name}


def read_runs(paths: Sequence[Path], base: TrainConfig | None = None) -> list[Run]:
    """Reads run directories, and names each run's variant.

    A variant is named by its model, followed by, as in ``dcgan+activation=mish`` or ``d3gan+lr=0.0001``,

    - the recipe's keys that the run overrides;
    - the keys that its folder's name holds as ``+key=``, as ``d3gan compare`` names the folders of variants;
    - of the keys that hold for a whole run, those in which it differs from ``base``.

    So a key that may change when a run is resumed (device, compile, ...) counts only where the folder's name holds
    it: a run trained on another device by chance is no variant. ``grad_accum_steps`` does not count if it makes up
    for another number of processes, so that a step has as many batches as most.

    Args:
        paths: run directories.
        base: what the variants share. None: for each data set, what most runs have whose folders do not vary the key.

    Returns:
        The runs, in the order of the paths.

    Raises:
        ConfigError: a path holds no run.
        ExternalError: a run cannot be read.
    """
    runs = [_read_run(path) for path in paths]
    usual = {name: _usual([run for run in runs if run.dataset == name], base) for name in {r.dataset for r in runs}}
    return [_named(run, *usual[run.dataset]) for run in runs]


def _read_run(path: Path) -> Run:
    directory = find_run(path)
    try:
        config = load_config(directory.config)
    except ConfigError as error:
        raise ExternalError(f"{directory.config}: cannot be read ({error}); leave this run out") from error
    sessions = read_environment(directory)
    data = [session.get("data") for session in reversed(sessions) if isinstance(session, dict)]
    dataset = next((str(each["name"]) for each in data if isinstance(each, dict) and each.get("name")), "")
    files = []
    for file in (directory.metrics, directory.evaluations):
        lines = {line["step"]: line for line in read_lines(file) if isinstance(line.get("step"), int)}
        files.append([lines[step] for step in sorted(lines)])
    grids = directory.sample_grids()
    return Run(path, config, config.model, dataset or config.dataset_name, sessions, files[0], files[1], grids)


def _usual(runs: Sequence[Run], base: TrainConfig | None) -> tuple[dict[str, Any], int]:
    """The value of each key that the variants share, and the batches per step; of a tie the default or the first."""
    if base is not None:
        return {key: getattr(base, key) for key in LASTING_KEYS}, base.grad_accum_steps
    values = {}
    for field in (field for field in dataclasses.fields(TrainConfig) if field.name in LASTING_KEYS):
        fixed = [run for run in runs if field.name not in run.varied_keys] or runs
        counts = Counter(getattr(run.config, field.name) for run in fixed)
        values[field.name] = max(counts, key=lambda value: (counts[value], value == field.default))
    usual = values["grad_accum_steps"]
    batches = Counter(run.batches_per_step for run in runs if "grad_accum_steps" not in run.varied_keys)
    return values, max(batches, key=lambda count: (batches[count], count == usual), default=usual)


def _named(run: Run, usual: Mapping[str, Any], usual_batches: int) -> Run:
    """The run with its variant's name, and the batch size by which it is compared."""
    differing = {key for key in LASTING_KEYS if getattr(run.config, key) != usual[key]}
    if run.batches_per_step == usual_batches:
        differing.discard("grad_accum_steps")
    differing |= run.varied_keys
    accumulates = "grad_accum_steps" in differing
    # A variant that accumulates more is compared with those that do not: it counts by their smaller batches.
    size = run.config.batch_size * run.world_size * usual["grad_accum_steps"] if accumulates else 0
    return dataclasses.replace(run, variant=variant_of(run.config, differing), batch_size=size)
