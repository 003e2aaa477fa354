"""A run's folder: whose run it holds, who is writing to it, and what it was made with."""

import dataclasses
import json
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from d3gan.config import RUN_MARK, TrainConfig, config_text, load_config
from d3gan.errors import ConfigError, WorldError
from d3gan.files import disk_errors, write_text

# What may change when a run goes on: it decides where and how long, not what is computed. Another device rounds
# otherwise, and the loop says so. The dataset is compared by its images' checksum, whatever it is called.
FREE_KEYS = frozenset(
    {
        "dataset",
        "out",
        "data_dir",
        "max_steps",
        "checkpoint",
        "tick",
        "sample_every",
        "workers",
        "device",
        "tensorboard",
        "timeout",
        # How the same step is called.
        "compile",
        "cuda_graph",
        # A checkpoint knows how many batches a step had; see ``d3gan.saving.resume``.
        "accumulate",
        # How the generator is evaluated; each line of evaluations.jsonl says it.
        "evaluate_every",
        "num_samples",
        "metrics",
        "reference",
        "features",
        "inception_weights",
        "generator",
        "protocol",
    }
)


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Paths of the files in a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The config as resolved."""
        return self.path / "config.ini"

    @property
    def environment(self) -> Path:
        """Versions, device, data and the command of each session."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a tick."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """One JSON object an evaluation."""
        return self.path / "evaluations.jsonl"

    @property
    def samples(self) -> Path:
        """Sample grids."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints."""
        return self.path / "checkpoints"

    @property
    def generator(self) -> Path:
        """The generator's weights, to share."""
        return self.path / "generator.safetensors"

    @property
    def averaged_generator(self) -> Path:
        """The moving average of the generator's weights, where one is kept."""
        return self.path / "generator-ema.safetensors"

    @property
    def best_generator(self) -> Path:
        """The evaluated generator of the lowest Fréchet distance so far."""
        return self.path / "generator-best.safetensors"

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint of the lowest Fréchet distance so far."""
        return self.checkpoints / "best.pt"

    def sample(self, step: int) -> Path:
        """The sample grid of a step."""
        return self.samples / f"step-{step:08d}.png"

    def sample_grids(self) -> list[tuple[int, Path]]:
        """Step and path of the sample grids, in order of the step."""
        found = ((path.stem.removeprefix("step-"), path) for path in self.samples.glob("step-*.png"))
        return sorted((int(step), path) for step, path in found if step.isdecimal())

    def is_ours(self) -> bool:
        """Whether the folder holds a run: a config.ini with the first line that only a run's has."""
        try:
            with self.config.open(encoding="utf-8", errors="replace") as file:
                return file.readline().strip() == RUN_MARK
        except OSError:
            return False


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return folder / f"step-{step:08d}.pt"


@contextmanager
def open_run(config: TrainConfig) -> Iterator[RunDirectory]:
    """Takes a run's folder for this process, for a new run or to go on with the one in it.

    Raises:
        ConfigError: the folder holds a run of another config, or something else.
        WorldError: another process is training there, or the folder cannot be written.
    """
    # Imported here: filelock brings asyncio along, and `d3gan sample --help` needs neither.
    from filelock import FileLock, Timeout

    run = RunDirectory(config.run_directory)
    lock = FileLock(run.path / ".lock")
    with disk_errors(run.path, "choose another folder with --out"):
        run.path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise WorldError(
                f"{run.path}: another process is training in this folder; wait, or choose another --out"
            ) from error
    try:
        refuse_other_runs(config)
        write_text(run.config, config_text(config))
        yield run
    finally:
        lock.release()


def refuse_other_runs(config: TrainConfig) -> None:
    """Checks that the config's run directory is free, or holds a run that the config may go on with.

    Raises:
        ConfigError: it holds a run of another config, or something else.
    """
    run = RunDirectory(config.run_directory)
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError(f"--out {run.path}: is a file; give a folder")
    source = Path(config.dataset).expanduser()
    if source.is_dir() and run.path.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"--out {run.path}: lies inside the folder of images {source}; choose one outside it")
    if not run.is_ours():
        if run.path.is_dir() and any(p.name != ".lock" for p in run.path.iterdir()):
            raise ConfigError(f"--out {run.path}: is not empty and holds no run of d3gan; give another folder")
        return
    if not run.metrics.exists() and not run.checkpoints.exists():
        return  # nothing was trained here yet
    try:
        before = load_config(run.config)
    except ConfigError as error:
        raise WorldError(f"{run.config}: is damaged ({error}); mend it, or choose another --out") from error
    free = FREE_KEYS | ({"epochs"} if config.recipe.schedule == "constant" else set())
    differing = [
        f"{field.name} = {getattr(before, field.name)} there, {getattr(config, field.name)} asked for"
        for field in dataclasses.fields(TrainConfig)
        if field.name not in free and getattr(before, field.name) != getattr(config, field.name)
    ]
    if differing:
        raise ConfigError(
            f"--out {run.path}: holds a run of another config ({'; '.join(differing)}); "
            "give the same values to go on with it, or another --out"
        )


def find_run(path: str | Path) -> RunDirectory:
    """The run directory at a path, for commands that read one.

    Raises:
        ConfigError: there is none.
    """
    run = RunDirectory(Path(path))
    if not run.is_ours():
        raise ConfigError(f"{path}: holds no run of d3gan; give the folder that `d3gan train` named as --out")
    return run


def home_of(run: str) -> Path:
    """The folder of a run, given the run directory or the generator.safetensors in one."""
    return Path(run).parent if run.endswith(".safetensors") else Path(run)


def write_environment(run: RunDirectory, facts: dict[str, Any]) -> dict[str, Any]:
    """Adds this session to environment.json: versions, machine, command, and the caller's facts; returns it."""
    import psutil
    import torch

    from d3gan import __version__

    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "d3gan": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": torch.get_num_threads(),
        **facts,
    }
    sessions = read_environment(run)
    write_text(run.environment, json.dumps({"sessions": [*sessions, session]}, indent=1) + "\n")
    return session


def read_environment(run: RunDirectory) -> list[dict[str, Any]]:
    """The sessions that worked on a run, oldest first; empty where environment.json is missing or damaged."""
    try:
        sessions: list[dict[str, Any]] = json.loads(run.environment.read_text())["sessions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sessions


def keep_lines_up_to(path: Path, last_step: int) -> None:
    """Drops what a .jsonl file says of steps after ``last_step``, and a last line cut short by a crash.

    Raises:
        WorldError: the file cannot be written.
    """

    def wanted(line: str) -> bool:
        try:
            return bool(json.loads(line)["step"] <= last_step)
        except (ValueError, KeyError, TypeError):
            return False

    if path.exists():
        _rewrite(path, wanted)


def _rewrite(path: Path, wanted: Callable[[str], bool]) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(line for line in text.splitlines(keepends=True) if wanted(line))
    if kept != text:
        write_text(path, kept)
