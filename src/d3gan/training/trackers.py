"""Experiment trackers, which get a copy of what a run measures: TensorBoard, Weights & Biases, MLflow.

The run's folder has everything without them. A tracker that fails costs a warning, never the run.
"""

import importlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from d3gan.errors import ConfigError, first_line
from d3gan.files import read_file, write_text
from d3gan.runs.directory import RunDirectory

logger = logging.getLogger("d3gan")

PROJECT = "d3gan"
"""Project of W&B and experiment of MLflow, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names another."""

Values = Mapping[str, float]
Settings = Mapping[str, object]
Picture = npt.NDArray[np.uint8]
"""(H, W, 3), 0..255."""
Sample = npt.NDArray[np.float32]
"""(N,) numbers of which a histogram shows how they are distributed; all finite, N >= 1."""


class Tracker(Protocol):
    """What a run tells a tracker. Steps never fall, except that a resumed run repeats some, with equal numbers."""

    def scalars(self, step: int, values: Values) -> None:
        """One number for each curve."""

    def images(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """Pictures by name."""

    def histograms(self, step: int, samples: Mapping[str, Sample]) -> None:
        """Numbers to make histograms of, by name."""

    def hparams(self, settings: Settings, results: Values) -> None:
        """The run's hyper-parameters: at its start without results, and at its end with them."""

    def close(self, finished: bool) -> None:
        """Called last; says whether the run has reached its last step."""


class TensorBoard:
    """Events in the run's folder. A resumed run writes those of the steps that it repeats anew."""

    def __init__(self, run: RunDirectory, first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.path / "events"), purge_step=first_step + 1)

    def scalars(self, step: int, values: Values) -> None:
        """As curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def images(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """As images."""
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def histograms(self, step: int, samples: Mapping[str, Sample]) -> None:
        """As histograms."""
        for name, numbers in samples.items():
            self._writer.add_histogram(name, numbers, step)

    def hparams(self, settings: Settings, results: Values) -> None:
        """Once, with the results: TensorBoard takes the first entry for all there is. In the run's own folder."""
        if results:
            self._writer.add_hparams(dict(settings), dict(results), run_name=".")

    def close(self, finished: bool) -> None:  # noqa: ARG002  # events have no place for it
        """Writes what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A run of W&B, which keeps its files in the run's folder. Its own settings, WANDB_MODE=offline too, hold.

    W&B ignores steps before its last one, such as those that a resumed run repeats.
    """

    def __init__(self, run: RunDirectory, identifier: str):
        self._wandb: Any = importlib.import_module("wandb")
        self.identifier = identifier or os.urandom(8).hex()
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.path.resolve().name,
            id=self.identifier,
            resume="allow",
            dir=str(run.path),
            reinit="create_new",  # the program may have a run of its own
            settings=self._wandb.Settings(console="off"),  # standard output stays ours
        )

    def scalars(self, step: int, values: Values) -> None:
        """As curves."""
        self._run.log(dict(values), step=step)

    def images(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """As images."""
        self._run.log({name: self._wandb.Image(picture) for name, picture in pictures.items()}, step=step)

    def histograms(self, step: int, samples: Mapping[str, Sample]) -> None:
        """As histograms."""
        self._run.log({name: self._wandb.Histogram(numbers) for name, numbers in samples.items()}, step=step)

    def hparams(self, settings: Settings, results: Values) -> None:
        """As config and summary."""
        self._run.config.update(dict(settings), allow_val_change=True)
        self._run.summary.update(dict(results))

    def close(self, finished: bool) -> None:
        """Waits until everything is sent."""
        self._run.finish(exit_code=0 if finished else 1)


class MLflow:
    """A run of MLflow, wherever MLFLOW_TRACKING_URI says. It has no histograms: three quantiles stand for each."""

    QUANTILES = (5, 50, 95)
    MOST = 100
    """Parameters and metrics in one request."""

    def __init__(self, run: RunDirectory, identifier: str):
        # Its own patience with a server that is away, many minutes, would hold up the run.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        self._client = mlflow.MlflowClient()
        self.identifier = identifier
        if identifier:
            self._client.update_run(identifier, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
        self.identifier = self._client.create_run(number, run_name=run.path.resolve().name).info.run_id

    def scalars(self, step: int, values: Values) -> None:
        """As curves."""
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, value, now, step) for name, value in values.items()]
        for first in range(0, len(metrics), self.MOST):
            self._client.log_batch(self.identifier, metrics=metrics[first : first + self.MOST])

    def images(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """As files of the run."""
        for name, picture in pictures.items():
            self._client.log_image(self.identifier, picture, artifact_file=f"{name}/step-{step:08d}.png")

    def histograms(self, step: int, samples: Mapping[str, Sample]) -> None:
        """As curves of the quantiles."""
        values = {
            f"{name}/p{percent:02d}": float(value)
            for name, numbers in samples.items()
            for percent, value in zip(self.QUANTILES, np.percentile(numbers, self.QUANTILES), strict=True)
        }
        self.scalars(step, values)

    def hparams(self, settings: Settings, results: Values) -> None:
        """As parameters, which keep their first value, and as metrics."""
        before = self._client.get_run(self.identifier).data.params
        params = [self._entities.Param(name, str(value)) for name, value in settings.items() if name not in before]
        for first in range(0, len(params), self.MOST):
            self._client.log_batch(self.identifier, params=params[first : first + self.MOST])
        self.scalars(0, results)

    def close(self, finished: bool) -> None:
        """Ends the run there."""
        self._client.set_terminated(self.identifier, "FINISHED" if finished else "KILLED")


class Tracking:
    """All trackers of a run; those that fail are left out, with a warning.

    Args:
        trackers: by name.
        settings: the run's hyper-parameters.
    """

    def __init__(self, trackers: dict[str, Tracker], settings: Settings):
        self._trackers, self._settings = trackers, settings
        self._results: dict[str, float] = {}
        self._finished = False
        self._each(lambda tracker: tracker.hparams(settings, {}))

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def metrics(self, line: dict[str, Any]) -> None:
        """Passes on a line of metrics.jsonl; a list becomes one curve per discriminator."""
        self._scalars(line)

    def evaluation(self, step: int, metrics: dict[str, Any]) -> None:
        """Passes on what an evaluation found; the last one is the run's result."""
        values = self._scalars({"step": step} | metrics)
        self._results = {f"final/{name}": value for name, value in values.items()}

    def samples(self, step: int, picture: Picture) -> None:
        """Passes on a sample grid."""
        self._each(lambda tracker: tracker.images(step, {"samples": picture}))

    def logits(self, step: int, logits: Mapping[str, Tensor]) -> None:
        """Passes on logits (N,) of discriminators by name, without those that are not finite."""
        finite = {name: numbers[numbers.isfinite()].float() for name, numbers in logits.items()}
        samples = {name: numbers.cpu().numpy() for name, numbers in finite.items() if len(numbers)}
        self._each(lambda tracker: tracker.histograms(step, samples))

    def finish(self) -> None:
        """The run has reached its last step: passes on its results, if there was an evaluation."""
        self._finished = True
        if self._results:
            self._each(lambda tracker: tracker.hparams(self._settings, self._results))

    def close(self) -> None:
        """Ends all trackers."""
        self._each(lambda tracker: tracker.close(self._finished))

    def _scalars(self, line: dict[str, Any]) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, value in line.items():
            if isinstance(value, list):
                values |= {f"{name}/{k}": v for k, v in enumerate(value)}
            elif name != "step":
                values[name] = value
        values = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        self._each(lambda tracker: tracker.scalars(line["step"], values))
        return values

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # whatever a server, a disk or another package comes up with
                del self._trackers[name]
                warn(name, error)


def warn(name: str, error: Exception) -> None:
    """Says that a tracker is left out."""
    logger.warning(
        f"track = {name}: failed ({type(error).__name__}: {first_line(error)}); the run goes on without it, "
        "metrics.jsonl has everything"
    )


def require_packages(names: Sequence[str]) -> None:
    """Checks before training that the packages of trackers are installed.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"track = {name}: {name} is not installed; pip install 'd3gan[{name}]'") from error


@contextmanager
def open_trackers(names: Sequence[str], run: RunDirectory, settings: Settings, first_step: int) -> Iterator[Tracking]:
    """Opens the trackers for the block, as the ones that an earlier session of the run used.

    Args:
        names: some of ``TRACKERS``; none in all processes but rank 0.
        run: whose tracking.json keeps the trackers' own names for the run.
        settings: the run's hyper-parameters.
        first_step: the last step that was logged before.
    """
    path, trackers = run.path / "tracking.json", dict[str, Tracker]()
    identifiers = _read_identifiers(run) if names else {}
    for name in names:
        try:
            if name == "tensorboard":
                trackers[name] = TensorBoard(run, first_step)
            else:
                hosted = (WeightsAndBiases if name == "wandb" else MLflow)(run, identifiers.get(name, ""))
                trackers[name], identifiers[name] = hosted, hosted.identifier
                write_text(path, json.dumps(identifiers) + "\n")
        except Exception as error:
            warn(name, error)
    tracking = Tracking(trackers, settings)
    try:
        yield tracking
    finally:
        tracking.close()


def _read_identifiers(run: RunDirectory) -> dict[str, str]:
    """What tracking.json holds; empty if it is missing or damaged, so that a new run begins there."""
    try:
        document = json.loads(read_file(run.path / "tracking.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {key: text for key, text in document.items() if isinstance(text, str)} if isinstance(document, dict) else {}
    )
