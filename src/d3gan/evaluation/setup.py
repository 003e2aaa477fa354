"""What an evaluation is to compute, and the set-up that one evaluation and evaluations during training share."""

import logging
from dataclasses import dataclass

import torch

from d3gan.config.datasets import FEATURE_METRICS
from d3gan.data.points import Mixture
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.choose import choose_extractor
from d3gan.evaluation.feature_statistics import SPLITS
from d3gan.evaluation.metrics.prdc import NEAREST
from d3gan.evaluation.modes import MixtureJudge, ModeJudge, StackedJudge
from d3gan.evaluation.published_fid import require_inception
from d3gan.evaluation.real_images import ImageFinder
from d3gan.evaluation.reference import Reference, find_reference

logger = logging.getLogger("d3gan")


@dataclass(frozen=True)
class EvaluationSpec:
    """What an evaluation is to compute."""

    metrics: tuple[str, ...]
    """Some of fid, is, kid, prdc, modes."""
    num_samples: int
    """Number of fake images."""
    replicates: int = 0
    """Bootstrap replicates of each interval; 0: no intervals."""

    @property
    def by_features(self) -> tuple[str, ...]:
        """The metrics that need an extractor and real images."""
        return tuple(metric for metric in self.metrics if metric in FEATURE_METRICS)


@dataclass(frozen=True)
class Instruments:
    """What an evaluation measures with; None what its metrics do not need."""

    extractor: Extractor | None = None
    reference: Reference | None = None
    """Of the real images; on rank 0 alone."""
    judge: ModeJudge | None = None


def set_up_evaluation(
    spec: EvaluationSpec,
    finder: ImageFinder,
    device: torch.device,
    group: Group,
    *,
    features: str,
    inception_weights: str,
    reference: str,
    protocol: str,
    mixture: Mixture | None = None,
) -> Instruments:
    """Chooses the extractor and what judges modes, finds the reference, and checks that they give what is asked for.

    All processes of the group must call it. Rank 0 warns of a FID from few images.

    Args:
        spec: what to compute.
        finder: finds the real images; knows the size of the fake ones and the data folder.
        device: where the extractor computes.
        group: the processes that share the work.
        features: see ``choose_extractor``.
        inception_weights: see ``choose_extractor``.
        reference: see ``find_reference``.
        protocol: ``standard``, or ``published``, which needs Inception.
        mixture: that the training points were drawn from; None: they are images.

    Raises:
        ConfigError: the settings do not fit together.
        ExternalError: weights or images are not available.
    """
    judge: ModeJudge | None = MixtureJudge(mixture) if mixture is not None else None
    if judge is None and "modes" in spec.metrics:
        with group.raise_on_all_ranks():
            judge = StackedJudge(finder.image_size, finder.data_dir, device)
    if not spec.by_features:
        return Instruments(judge=judge)
    with group.raise_on_all_ranks():
        extractor = choose_extractor(
            features,
            inception_weights=inception_weights,
            data_dir=finder.data_dir,
            device=device,
            image_size=finder.image_size,
        )
        if protocol == "published":
            require_inception(extractor)
        _check_spec(spec, extractor)
    # One host may have the weights of Inception and another not.
    group.require_equal({"features": extractor.identity})
    real = find_reference(reference, extractor, group, finder)
    with group.raise_on_all_ranks():
        if real is not None:
            _check_reference(spec, real, extractor)
    return Instruments(extractor, real, judge)


def _check_spec(spec: EvaluationSpec, extractor: Extractor) -> None:
    """Refuses metrics that this extractor, or so few images, cannot give."""
    if "is" in spec.metrics and not extractor.classes:
        raise ConfigError(f"metrics: is needs class logits, which {extractor.name} does not give; leave it out")
    for metric, fewest in (("is", SPLITS), ("prdc", NEAREST + 1)):
        if metric in spec.metrics and spec.num_samples < fewest:
            others = ",".join(other for other in spec.metrics if other != metric) or "fid"
            raise ConfigError(
                f"metrics: {metric} needs at least {fewest} images, not {spec.num_samples} (num_samples); ask for "
                f"more, or leave it out: {others}"
            )


def _check_reference(spec: EvaluationSpec, reference: Reference, extractor: Extractor) -> None:
    """Refuses metrics for which the reference lacks features, and warns of a FID from few images."""
    need_features = [metric for metric in ("kid", "prdc") if metric in spec.metrics]
    if reference.sampled_features is None and need_features:
        raise ConfigError(
            f"metrics: {', '.join(need_features)}: {reference.description} holds no features, only mu and sigma; "
            "leave them out, or give images as the reference"
        )
    count = min(spec.num_samples, reference.count or spec.num_samples)
    if "fid" in spec.metrics and count <= extractor.feature_size:
        logger.warning(
            f"{count:,} images for {extractor.feature_size:,} features: FID is biased upwards, its covariance is "
            "singular; compare it only with FID of as many images"
        )
