"""Which run a folder holds, and which process writes to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d3gan.config.datasets import SET_NAMES
from d3gan.config.ini import config_text, load_config
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.files import disk_errors, user_path, write_text
from d3gan.runs.directory import RunDirectory


@contextmanager
def open_run(config: TrainConfig) -> Iterator[RunDirectory]:
    """Locks a run's folder for this process, for a new run or to resume the one in it.

    Raises:
        ConfigError: the folder holds a run of another config, or something else.
        ExternalError: another process is training there, or the folder cannot be written.
    """
    # Imported here: filelock brings asyncio along, and `d3gan sample --help` needs neither.
    from filelock import FileLock, Timeout

    run = RunDirectory(config.run_directory)
    lock = FileLock(run.lock)
    with disk_errors(run.path, "choose another folder with --out"):
        run.path.mkdir(parents=True, exist_ok=True)
        try:
            # Whoever asks with ``is_taken`` holds it for a moment.
            lock.acquire(timeout=1.0)
        except Timeout as error:
            raise ExternalError(
                f"{run.path}: another process is training in this folder; wait, or choose another --out"
            ) from error
    try:
        refuse_other_runs(config)
        write_text(run.config, config_text(config))
        yield run
    finally:
        lock.release()


def is_taken(run: RunDirectory) -> bool:
    """Whether another process holds the lock of a run."""
    if not run.lock.is_file():
        return False
    from filelock import FileLock, Timeout

    lock = FileLock(run.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # the run itself says what is wrong
        return False
    lock.release()
    return False


def locked_files() -> frozenset[int] | None:
    """The inode numbers of all files that processes of this machine hold locks on; None where they cannot be listed.

    Unlike ``is_taken`` it takes no lock itself, not even for a moment: a run that begins then would be refused. Linux
    lists locks in /proc/locks (proc_locks(5)); its device numbers are not those of ``stat`` on overlays and Btrfs, so
    that only the inode numbers count.
    """
    try:
        fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return frozenset(int(each[-3].rpartition(":")[2]) for each in fields if each[1:2] == ["FLOCK"])
    except (OSError, ValueError, IndexError):
        return None


def refuse_other_runs(config: TrainConfig) -> None:
    """Checks that the config's run directory is free, or holds a run that the config may resume.

    Raises:
        ConfigError: it holds a run of another config, or something else.
    """
    run = RunDirectory(config.run_directory)
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError(f"--out {run.path}: is a file; give a folder")
    source = user_path(config.dataset)
    is_folder = config.dataset not in SET_NAMES and source.is_dir()
    if is_folder and run.path.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"--out {run.path}: lies inside the folder of images {source}; choose one outside it")
    if not run.is_ours():
        before_a_kill = {".lock", f"{run.config.name}.tmp"}  # what is there until the config is whole
        if run.path.is_dir() and any(p.name not in before_a_kill for p in run.path.iterdir()):
            raise ConfigError(f"--out {run.path}: is not empty and holds no run of d3gan; give another folder")
        return
    if not run.metrics.exists() and not run.checkpoints.exists():
        return  # nothing was trained here yet
    try:
        before = load_config(run.config)
    except ConfigError as error:
        raise ExternalError(
            f"{run.config}: cannot be read ({error}); fix the file or choose another --out"
        ) from error
    differing = [
        f"{name} = {getattr(before, name)} there, {value} asked for"
        for name, value in config.bound_values.items()
        if getattr(before, name) != value
    ]
    if differing:
        raise ConfigError(
            f"--out {run.path}: holds a run of another config ({'; '.join(differing)}); "
            "give the same values to resume it, or another --out"
        )
