"""Evaluations during training: evaluations.jsonl, and which one was the best."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from d3gan.config.train_config import TrainConfig, check_metrics
from d3gan.data.load import ImageSet
from d3gan.distributed.group import Group
from d3gan.errors import ExternalError
from d3gan.evaluation.evaluate import EvaluationSpec, evaluate, fakes_of, refuse_impossible, warning_of_few
from d3gan.evaluation.extractors.choose import choose
from d3gan.evaluation.metric_names import NOT_COMPUTED, PUBLISHED_FID
from d3gan.evaluation.published_fid import published_fid, require_inception
from d3gan.evaluation.real_images import ImageFinder, Images
from d3gan.evaluation.reference import find_reference
from d3gan.files import disk_errors
from d3gan.models.dcgan import Generator
from d3gan.runs.jsonl import read_evaluations

logger = logging.getLogger("d3gan")


class _GivenUp(Exception):  # noqa: N818  # no error: nobody but ``PeriodicEvaluator.evaluate`` sees it
    """The run is to stop."""


class PeriodicEvaluator:
    """Evaluates a run's generator again and again: same extractor, same reference, same latents.

    Args:
        config: of the run.
        image_set: what the run trains on.
        device: where the extractor computes.
        group: the processes that share the work; all of them must call what this class offers.

    Raises:
        ConfigError: what the config asks for does not fit together.
        ExternalError: the extractor's weights or the real images cannot be had.
    """

    def __init__(
        self,
        config: TrainConfig,
        image_set: ImageSet,
        device: torch.device,
        group: Group,
    ):
        self._config, self._image_set, self._group = config, image_set, group
        self._wanted = EvaluationSpec(check_metrics(config.metrics), config.num_samples)
        with group.raise_on_all_ranks():
            self._extractor = choose(
                config.features,
                inception_weights=config.inception_weights,
                data_dir=config.data_dir or None,
                device=device,
                image_size=config.image_size,
            )
            if config.protocol == "published":
                require_inception(self._extractor)
        # One host may have the weights of Inception and another not.
        group.require_equal({"features": self._extractor.identity})
        self._reference = find_reference(
            config.reference,
            self._extractor,
            self._group,
            ImageFinder(config.dataset, config.image_size, config.nc, config.data_dir or None),
        )
        with group.raise_on_all_ranks():
            refuse_impossible(self._wanted, self._reference, self._extractor)
        if self._reference is not None:
            images = min(config.num_samples, self._reference.count or config.num_samples)
            if warning := warning_of_few(images, self._wanted, self._extractor):
                logger.info(warning)

    def is_due(self, path: Path, step: int, last_step: int) -> bool:
        """Whether a step is to be evaluated and evaluations.jsonl, as rank 0 sees it, does not have it yet."""
        if step != last_step and step % self._config.evaluate_every:
            return False
        own = self._group.is_main and all(line.get("step") != step for line in read_evaluations(path))
        return bool(self._group.broadcast(own))

    def evaluate(
        self,
        generator: Generator,
        step: int,
        training_seconds: float,
        weights: str,
        stopped: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any] | None:
        """One line of evaluations.jsonl; what cannot be computed of these weights is said in it, and ends nothing.

        Args:
            generator: raw or averaged; called in eval mode.
            step: steps done.
            training_seconds: seconds of training up to here, without evaluations.
            weights: which weights these are, raw or ema.
            stopped: asked now and then in all processes; once it says yes in any, the evaluation is given up.

        Returns:
            The line, on other processes than rank 0 an empty one; None where it was given up.
        """
        config, begin = self._config, time.perf_counter()

        def give_up(_images: int) -> None:
            if self._group.any_rank(stopped()):
                raise _GivenUp

        fakes = fakes_of(generator, config.seed)
        try:
            record = evaluate(fakes, self._wanted, self._reference, self._extractor, self._group, advance=give_up)
        except _GivenUp:
            return None
        if record is None:
            return {}
        about = {
            "step": step,
            "images_seen": step * config.batch_size * config.grad_accum_steps * self._group.world_size,
            "training_seconds": round(training_seconds, 3),
            "generator": weights,
        }
        if config.protocol == "published":
            real = Images("train", self._image_set)
            try:
                fid = published_fid(generator, real, self._extractor, config.batch_size, config.seed)
                record[PUBLISHED_FID] = fid
            except ExternalError as error:
                record.setdefault(NOT_COMPUTED, {})[PUBLISHED_FID] = str(error)
        return about | record | {"evaluation_seconds": round(time.perf_counter() - begin, 3)}

    def write(self, path: Path, line: dict[str, Any]) -> bool:
        """Adds a line to evaluations.jsonl; returns whether its Fréchet distance is the lowest of its kind so far.

        Lines of another extractor, reference, number of samples or kind of weights are not compared with it.

        Raises:
            ExternalError: the file cannot be written.
        """
        before = read_evaluations(path)
        with disk_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fid = next((name for name in line if name.startswith("fid_") and name != PUBLISHED_FID), None)
        if fid is None:
            return False
        kind = ("num_samples", "reference", "generator")
        others = [other[fid] for other in before if fid in other and all(other.get(k) == line[k] for k in kind)]
        return all(line[fid] < other for other in others)
