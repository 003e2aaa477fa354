"""Evaluations during training: evaluations.jsonl, and which one was the best."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from d3gan.config.train_config import TrainConfig
from d3gan.data.load import ImageSet
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.evaluate import evaluate, fake_images
from d3gan.evaluation.metric_names import NOT_COMPUTED, PUBLISHED_FID, metric_label
from d3gan.evaluation.published_fid import published_fid
from d3gan.evaluation.real_images import ImageFinder, RealImages
from d3gan.evaluation.setup import EvaluationSpec, set_up_evaluation
from d3gan.files import disk_errors
from d3gan.models.base import GeneratorNetwork
from d3gan.runs.directory import RunDirectory
from d3gan.runs.generator_file import read_facts
from d3gan.runs.jsonl import read_lines

logger = logging.getLogger("d3gan")

# Below this, half of the best recall or coverage is no news: the generator never made many kinds of images.
_LEAST = 0.05


class _Stopped(Exception):  # noqa: N818  # no error: only ``PeriodicEvaluator.evaluate`` sees it
    """The run is to stop."""


class PeriodicEvaluator:
    """Evaluates a run's generator repeatedly: same extractor, same reference, same latents.

    Args:
        config: the run's.
        image_set: the training images.
        device: where the extractor computes.
        group: the processes that share the work; all of them must call every method but ``write``.

    Raises:
        ConfigError: the config's values do not fit together.
        ExternalError: the extractor's weights or the real images are not available.
    """

    def __init__(self, config: TrainConfig, image_set: ImageSet, device: torch.device, group: Group):
        self._config, self._image_set, self._group = config, image_set, group
        self._spec = EvaluationSpec(config.resolved_metrics, config.num_samples)
        self._instruments = set_up_evaluation(
            self._spec,
            ImageFinder(config.dataset, config.image_size, config.nc, config.data_dir or None, config.skip_damaged),
            device,
            group,
            features=config.features,
            inception_weights=config.inception_weights,
            reference=config.reference,
            protocol=config.protocol,
            mixture=image_set.mixture,
        )

    def is_due(self, path: Path, step: int, last_step: int) -> bool:
        """Whether a step is to be evaluated and is not yet in evaluations.jsonl, which rank 0 reads."""
        if step != last_step and step % self._config.evaluate_every:
            return False
        missing = self._group.is_main and all(line.get("step") != step for line in read_lines(path))
        return bool(self._group.broadcast(missing))

    def best_is_unsaved(self, run: RunDirectory, step: int) -> bool:
        """Whether a step was evaluated as the best one so far, and its files do not exist: a kill came between."""
        unsaved = False
        if self._group.is_main:
            lines = read_lines(run.evaluations)
            line = next((line for line in lines if line.get("step") == step), None)
            if line is not None and _is_best(line, [other for other in lines if other is not line]):
                try:
                    unsaved = read_facts(run.best_generator)["step"] != step
                except (ConfigError, ExternalError, KeyError):
                    unsaved = True
        return bool(self._group.broadcast(unsaved))

    def evaluate(
        self,
        generator: GeneratorNetwork,
        step: int,
        training_seconds: float,
        weights: str,
        stopped: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any] | None:
        """Makes one line of evaluations.jsonl. If a metric cannot be computed, the line says why.

        Args:
            generator: raw or averaged; called in eval mode.
            step: steps done.
            training_seconds: seconds of training so far, without evaluations.
            weights: raw or ema.
            stopped: called repeatedly in all processes; once it returns True in any, the evaluation ends.

        Returns:
            The line on rank 0, an empty one elsewhere; None if the evaluation was stopped.
        """
        config, begin = self._config, time.perf_counter()

        def check_stopped(_images: int) -> None:
            if self._group.any_rank(stopped()):
                raise _Stopped

        counts = self._image_set.class_counts
        fakes = fake_images(generator, config.seed, counts)
        try:
            record = evaluate(fakes, self._spec, self._instruments, self._group, advance=check_stopped)
        except _Stopped:
            return None
        if record is None:
            return {}
        line = {
            "step": step,
            "images_seen": step * config.images_per_step * self._group.world_size,
            "training_seconds": round(training_seconds, 3),
            "generator": weights,
        }
        if config.protocol == "published":
            real, extractor = RealImages("train", self._image_set), self._instruments.extractor
            assert extractor is not None  # the config has metrics by features
            try:
                record[PUBLISHED_FID] = published_fid(
                    generator, real, extractor, config.batch_size, config.seed, counts
                )
            except ExternalError as error:
                record.setdefault(NOT_COMPUTED, {})[PUBLISHED_FID] = str(error)
        return line | record | {"evaluation_seconds": round(time.perf_counter() - begin, 3)}

    def write(self, path: Path, line: dict[str, Any]) -> bool:
        """Adds a line to evaluations.jsonl; returns whether it is the best of its kind so far: see ``_badness``.

        The line is not compared with lines of another extractor, reference, number of samples or kind of weights.

        Raises:
            ExternalError: the file cannot be written.
        """
        earlier = read_lines(path)
        with disk_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        _warn_of_collapse(line, earlier)
        return _is_best(line, earlier)


def _is_best(line: dict[str, Any], earlier: list[dict[str, Any]]) -> bool:
    """Whether a line is better than all earlier ones of its kind."""
    badness = _badness(line)
    if not badness:
        return False
    kind = ("num_samples", "reference", "generator")
    return all(
        tuple(badness.values()) < tuple(_badness(other).values())
        for other in earlier
        if _badness(other).keys() == badness.keys() and all(other.get(key) == line.get(key) for key in kind)
    )


def _badness(line: dict[str, Any]) -> dict[str, float]:
    """What makes one evaluation worse than another: FID; else modes not found, then the divergence."""
    fid = {name: line[name] for name in line if name.startswith("fid_") and name != PUBLISHED_FID}
    if fid:
        return fid
    modes = {name: -line[name] for name in line if name.startswith("modes_")}
    return modes | {name: line[name] for name in line if name.startswith("kl_") and not name.endswith("_interval")}


def _warn_of_collapse(line: dict[str, Any], earlier: list[dict[str, Any]]) -> None:
    """Warns when recall, coverage or the modes found fall below half of the best earlier value: kinds are gone."""
    for name in (name for name in line if name.startswith(("recall", "coverage", "modes"))):
        values = [each[name] for each in earlier if isinstance(each.get(name), float)]
        if not values or not isinstance(line[name], float):
            continue
        half = max(values) / 2
        if line[name] < half and half >= _LEAST and values[-1] >= half:
            logger.warning(
                f"step {line['step']}: {metric_label(name)} fell to {line[name]:.3g} from {max(values):.3g} at best: "
                "the generator makes fewer kinds of samples; an earlier checkpoint may be better"
            )
