"""The files of a run's folder."""

import dataclasses
from pathlib import Path

from d3gan.config.ini import RUN_MARK
from d3gan.errors import ConfigError, ExternalError
from d3gan.files import open_file, user_path


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Paths of the files in a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The config as resolved."""
        return self.path / "config.ini"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.path / ".lock"

    @property
    def environment(self) -> Path:
        """Versions, device, data and the command of each session."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """A JSON object for every ``log_every`` steps."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """A JSON object per evaluation."""
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
        numbered = ((path.stem.removeprefix("step-"), path) for path in self.samples.glob("step-*.png"))
        return sorted((int(step), path) for step, path in numbered if step.isdecimal())

    def refuse_removed(self) -> None:
        """Checks, before a file is written there, that the folder of an opened run is still its own.

        Raises:
            ExternalError: it was removed or moved; made anew, it would hold a part of a run.
        """
        if not self.is_ours():
            raise ExternalError(
                f"{self.path}: the run's folder or its config.ini was removed or moved while it trained; "
                "nothing more is written there. Bring it back and give the same command, or choose another --out"
            )

    def is_ours(self) -> bool:
        """Whether the folder holds a run: a config.ini with the first line that only a run's has."""
        try:
            with open_file(self.config) as file:
                return file.readline(1024).decode("utf-8", errors="replace").strip() == RUN_MARK
        except OSError:
            return False


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return folder / f"step-{step:08d}.pt"


def find_run(path: str | Path) -> RunDirectory:
    """The run directory at a path, for commands that read one.

    Raises:
        ConfigError: there is none.
    """
    run = RunDirectory(user_path(path))
    if not run.is_ours():
        raise ConfigError(f"{path}: holds no run of d3gan; give the folder that `d3gan train` named as --out")
    return run


def runs_in(folder: Path) -> list[Path]:
    """The run directories that a folder stands for: itself, those in its subfolder ``runs``, or those in it.

    Raises:
        ConfigError: there are none.
    """
    if RunDirectory(folder).is_ours():
        return [folder]
    for parent in (folder / "runs", folder):
        runs = sorted(path.parent for path in parent.glob("*/config.ini") if RunDirectory(path.parent).is_ours())
        if runs:
            return runs
    problem = "holds no run of d3gan" if folder.exists() else "does not exist"
    raise ConfigError(f"{folder}: {problem}; give run directories, or a folder that holds some")


def home_of(run: str) -> Path:
    """The folder of a run, given the run directory or the generator.safetensors in one."""
    path = user_path(run)
    return path.parent if path.suffix == ".safetensors" else path
