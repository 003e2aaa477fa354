"""TensorBoard events, written in addition to metrics.jsonl."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from d3gan.errors import ConfigError
from d3gan.runs.directory import RunDirectory


class NoEvents:
    """Writes nothing."""

    def write(self, line: dict[str, Any]) -> None:
        """Nothing."""


class TensorBoardEvents:
    """Writes metrics as scalars; a list becomes one curve per discriminator."""

    def __init__(self, writer: Any):
        self._writer = writer

    def write(self, line: dict[str, Any]) -> None:
        """Writes a line of metrics.jsonl, or the metrics of an evaluation, with their step."""
        for name, value in line.items():
            if name == "step" or value is None:
                continue
            curves = {f"{name}/{k}": v for k, v in enumerate(value)} if isinstance(value, list) else {name: value}
            for curve, number in curves.items():
                self._writer.add_scalar(curve, number, line["step"])


def require_tensorboard() -> None:
    """Checks before training that TensorBoard is installed.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "tensorboard = True: TensorBoard is not installed; pip install 'd3gan[tensorboard]'"
        ) from error


@contextmanager
def open_events(wanted: bool, run: RunDirectory, first_step: int) -> Iterator[NoEvents | TensorBoardEvents]:
    """Opens the run's events/ folder if ``wanted``; events from ``first_step`` on are written anew."""
    if not wanted:
        yield NoEvents()
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run.path / "events"), purge_step=first_step + 1) as writer:
        yield TensorBoardEvents(writer)
