"""From run directories to records that can be compared."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3gan.comparison.variants import LASTING_KEYS, VARIANT_KEYS, variant_of
from d3gan.config.ini import load_config
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.runs.directory import find_run
from d3gan.runs.environment import read_environment

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Run:
    """A run directory as read: nothing of it is checked beyond what is said here."""

    path: Path
    config: TrainConfig
    """As resolved; of a torn or foreign config the reader raises instead."""
    variant: str
    """What is compared: the model's name, with the keys in which the run differs from its recipe behind it."""
    dataset: str
    """The images' name, as environment.json has it: cifar10-jpeg-train, never a path."""
    sessions: Sequence[Mapping[str, Any]]
    """environment.json, a mapping a session."""
    metrics: Sequence[Mapping[str, Any]]
    """Whole lines of metrics.jsonl, in order of the step."""
    evaluations: Sequence[Mapping[str, Any]]
    """Whole lines of evaluations.jsonl, in order of the step."""
    grids: Sequence[tuple[int, Path]]
    """Step and file of the sample grids."""
    batch_size: int = 0
    """Real images a step without what its variant accumulates, of all processes; 0: as its metrics say."""

    @property
    def name(self) -> str:
        """What people call the run: its folder's name. May hold any character a file name may."""
        return self.path.resolve().name


def read_runs(paths: Sequence[Path], base: TrainConfig | None = None) -> list[Run]:
    """Reads run directories, and names the variant that each is.

    A variant is called by its model, and behind it, as in ``dcgan+activation=mish`` or ``d3gan+lr=0.0001``,

    - the recipe's keys that the run overrides;
    - the keys that its folder's name gives as ``+key=``, as ``d3gan compare`` names the folders of variants;
    - of the keys that hold for a whole run, those in which it differs from ``base``.

    So a key that may change when a run goes on (device, compile, ...) counts only where the folder says so: a run
    trained on another device by chance is no variant. ``grad_accum_steps`` does not count if it makes up for another
    number of processes, so that a step has as many batches as most.

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


def _named(run: Run, usual: dict[str, Any], usual_batches: int) -> Run:
    """The run with its variant's name, and the batch size that it has beside that."""
    varied = _varied(run)
    own = {key for key in LASTING_KEYS if getattr(run.config, key) != usual[key]}
    if _batches(run) == usual_batches:
        own.discard("grad_accum_steps")
    own |= varied
    # A variant that accumulates more is compared with those that do not: like them it counts by its smaller batches.
    size = run.config.batch_size * _processes(run) * usual["grad_accum_steps"] if "grad_accum_steps" in own else 0
    return dataclasses.replace(run, variant=variant_of(run.config, own), batch_size=size)


def _usual(runs: Sequence[Run], base: TrainConfig | None) -> tuple[dict[str, Any], int]:
    """The value of each key that the variants share, and the batches of a step; of a tie the default or the first."""
    if base is not None:
        return {key: getattr(base, key) for key in LASTING_KEYS}, base.grad_accum_steps
    usual = {}
    for field in (field for field in dataclasses.fields(TrainConfig) if field.name in LASTING_KEYS):
        fixed = [run for run in runs if field.name not in _varied(run)] or runs
        counts = Counter(getattr(run.config, field.name) for run in fixed)
        usual[field.name] = max(counts, key=lambda value: (counts[value], value == field.default))
    batches = Counter(_batches(run) for run in runs if "grad_accum_steps" not in _varied(run))
    return usual, max(
        batches, key=lambda n: (batches[n], n == usual["grad_accum_steps"]), default=usual["grad_accum_steps"]
    )


def _varied(run: Run) -> set[str]:
    """The keys that a run was made to vary, as its folder's name says."""
    return {key for key in VARIANT_KEYS if f"+{key}=" in run.name}


def _batches(run: Run) -> int:
    """Batches of a step, of all processes."""
    return run.config.grad_accum_steps * _processes(run)


def _processes(run: Run) -> int:
    """Processes of the last session."""
    found = run.sessions[-1].get("world_size") if run.sessions else None
    return found if isinstance(found, int) and found > 0 else 1


def _read_run(path: Path) -> Run:
    directory = find_run(path)
    try:
        config = load_config(directory.config)
    except ConfigError as error:
        raise ExternalError(f"{directory.config}: is damaged ({error}); leave this run out") from error
    sessions = read_environment(directory)
    metrics, evaluations = (_lines(place) for place in (directory.metrics, directory.evaluations))
    dataset = _dataset_of(config, sessions)
    return Run(path, config, config.model, dataset, sessions, metrics, evaluations, directory.sample_grids())


def _dataset_of(config: TrainConfig, sessions: Sequence[Any]) -> str:
    """The data set's name as the last session has it, else as the config has it, never a path."""
    for session in reversed(sessions):
        data = session.get("data") if isinstance(session, dict) else None
        if isinstance(data, dict) and data.get("name"):
            return str(data["name"])
    return config.dataset_name


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a .jsonl file, in order of their step; the last one of a step; none of a missing file.

    Raises:
        ExternalError: the file is there and cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ExternalError(f"{path}: cannot be read: {error.strerror}") from error
    found: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut short by a crash
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            found[record["step"]] = record
    return [found[step] for step in sorted(found)]
