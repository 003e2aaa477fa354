"""One evaluation: fake images through an extractor, their features compared with a reference's, metrics by name."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from d3gan.distributed.group import Group
from d3gan.errors import ExternalError, PeerLostError, first_line
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.feature_statistics import (
    SPLITS,
    FeatureStatistics,
    Source,
    collect_statistics,
    evaluation_order,
    gray_to_color,
)
from d3gan.evaluation.metric_names import NOT_COMPUTED, metric_name
from d3gan.evaluation.metrics.errors import frechet_error, interval, kernel_error, mean_error, score_error
from d3gan.evaluation.metrics.fid import frechet_distance
from d3gan.evaluation.metrics.kid import kernel_distance
from d3gan.evaluation.metrics.prdc import neighbors
from d3gan.evaluation.modes import count_modes, mode_metrics
from d3gan.evaluation.reference import Reference
from d3gan.evaluation.setup import EvaluationSpec, Instruments
from d3gan.images import to_uint8
from d3gan.models.base import GeneratorNetwork
from d3gan.progress_bar import progress_bar
from d3gan.randomness import draw_labels, draw_latents, stream
from d3gan.sampling.generate import raw_sample

# Latents are drawn in chunks of this many, each from a random stream of its own, so that any process can draw any.
LATENT_CHUNK = 250


def fake_images(generator: GeneratorNetwork, seed: int, class_counts: Sequence[int] = ()) -> Source:
    """A generator's images, made in eval mode; each depends on the seed and its own number alone.

    They are rounded to uint8 and clipped, never stretched; see ``d3gan.images.to_uint8``. Points stay as they are.

    Args:
        generator: makes them.
        seed: decides latents and labels.
        class_counts: of a generator with classes: images of each class in the data; fakes have the same shares.
    """

    def source(start: int, stop: int) -> torch.Tensor:
        chunks, of_chunks = [], []
        for chunk in range(start // LATENT_CHUNK, -(-stop // LATENT_CHUNK)):
            latents = draw_latents(LATENT_CHUNK, generator.nz, seed, "evaluation", chunk, device="cpu")
            first = chunk * LATENT_CHUNK
            wanted = slice(max(start - first, 0), stop - first)
            chunks.append(latents[wanted])
            if class_counts:
                labels = draw_labels(LATENT_CHUNK, class_counts, seed, "evaluation labels", chunk, device="cpu")
                of_chunks.append(labels[wanted])
        images = raw_sample(generator, torch.cat(chunks), torch.cat(of_chunks) if class_counts else None)
        if not images.isfinite().all():  # as 8-bit images they would pass for black ones
            what = "points" if generator.makes_points else "images"
            raise ExternalError(f"the generator's {what} are not finite numbers: its training has diverged")
        return images if generator.makes_points else gray_to_color(to_uint8(images))

    return source


def evaluate(
    source: Source,
    spec: EvaluationSpec,
    instruments: Instruments,
    group: Group,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Any] | None:
    """Measures fake images; all processes of the group must call it.

    A metric that cannot be computed of these images (they are not finite, memory runs out, …) raises nothing: the
    record holds its reason under ``NOT_COMPUTED``.

    Args:
        source: the fake images.
        spec: what to compute, as ``set_up_evaluation`` has checked it.
        instruments: what to measure with, as ``set_up_evaluation`` has chosen it.
        group: the processes that share the work.
        advance: called with the number of images done since the last call.

    Returns:
        On rank 0 the record: what was compared with what, and the metrics by name. None elsewhere.

    Raises:
        PeerLostError: another process is gone.
    """
    record: dict[str, Any] = {"num_samples": spec.num_samples}
    reasons: dict[str, str] = {}
    if instruments.judge is not None and "modes" in spec.metrics:
        try:
            counts = count_modes(source, spec.num_samples, instruments.judge, group, advance)
            record |= mode_metrics(counts, instruments.judge, spec.replicates)
        except PeerLostError:
            raise
        except ExternalError as error:  # the same one in all processes
            reasons["modes"] = str(error)
    if instruments.extractor is not None:
        by_features = _evaluate_features(source, spec, instruments.extractor, instruments.reference, group, advance)
        reasons |= by_features.pop(NOT_COMPUTED, {})
        record |= by_features
    if not group.is_main:
        return None
    return record | ({NOT_COMPUTED: reasons} if reasons else {})


def _evaluate_features(
    source: Source,
    spec: EvaluationSpec,
    extractor: Extractor,
    reference: Reference | None,
    group: Group,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """The metrics by features, and what they compare; on rank 0."""
    statistics, reasons = None, dict[str, str]()
    with progress_bar("features of fake images", spec.num_samples, unit="images") as advance_bar:

        def advance_both(images: int) -> None:
            advance_bar(images)
            advance(images)

        try:
            statistics = collect_statistics(
                source,
                spec.num_samples,
                extractor,
                group,
                score="is" in spec.metrics,
                all_features=spec.replicates > 0,
                advance=advance_both,
            )
        except PeerLostError:
            raise
        except ExternalError as error:  # the same one in all processes
            reasons = dict.fromkeys(spec.by_features, str(error))
    if not group.is_main:
        return {}
    assert reference is not None  # rank 0 has it
    record: dict[str, Any] = {
        "features": extractor.name,
        "reference": reference.description,
        "reference_images": reference.count,
    }
    if statistics is not None:
        for metric in spec.by_features:
            try:
                record |= _METRICS[metric](statistics, reference, extractor, spec)
            except ExternalError as error:
                reasons[metric] = str(error)
            except (RuntimeError, MemoryError, np.linalg.LinAlgError) as error:  # memory, or a solver
                reasons[metric] = first_line(error)
    return record | ({NOT_COMPUTED: reasons} if reasons else {})


def _fid(
    fakes: FeatureStatistics, reference: Reference, extractor: Extractor, spec: EvaluationSpec
) -> dict[str, Any]:
    name = metric_name("fid", extractor.name, reference.name)
    distance = frechet_distance(reference.gaussian, fakes.moments.gaussian())
    if fakes.features is None:
        return {name: distance}
    with progress_bar("bootstrap", spec.replicates, unit="replicates") as advance:
        rng = stream(0, "bootstrap", 0)
        error = frechet_error(fakes.features, reference.gaussian, spec.replicates, rng, advance)
    return {name: distance, f"{name}_interval": interval(distance, error)}


def _is(
    fakes: FeatureStatistics, _reference: Reference, extractor: Extractor, spec: EvaluationSpec
) -> dict[str, Any]:
    assert fakes.score is not None  # asked for
    name = metric_name("is", extractor.name)
    score, deviation = fakes.score
    metrics: dict[str, Any] = {name: score, f"{name}_deviation": deviation}
    if fakes.logits is not None:
        order = evaluation_order(len(fakes.logits))
        error = score_error(fakes.logits, order, SPLITS, spec.replicates, stream(0, "bootstrap", 1))
        metrics[f"{name}_interval"] = interval(score, error)
    return metrics


def _kid(
    fakes: FeatureStatistics, reference: Reference, extractor: Extractor, spec: EvaluationSpec
) -> dict[str, Any]:
    real_features, fake_features = reference.sampled_features, fakes.sampled_features
    assert real_features is not None  # set_up_evaluation looked
    name = metric_name("kid", extractor.name, reference.name)
    distance = kernel_distance(real_features, fake_features, stream(0, "KID subsets"))
    metrics: dict[str, Any] = {name: distance.mean, "subset_size": distance.subset_size}
    if distance.deviation is not None:
        metrics[f"{name}_deviation"] = distance.deviation
    if spec.replicates:
        error = kernel_error(real_features, fake_features, distance)
        metrics[f"{name}_interval"] = interval(distance.mean, error)
    return metrics


def _prdc(
    fakes: FeatureStatistics, reference: Reference, extractor: Extractor, spec: EvaluationSpec
) -> dict[str, Any]:
    assert reference.sampled_features is not None  # set_up_evaluation looked
    metrics: dict[str, Any] = {}
    per_image = dataclasses.asdict(neighbors(reference.sampled_features, fakes.sampled_features))
    for metric, values in per_image.items():
        name = metric_name(metric, extractor.name, reference.name)
        metrics[name] = float(values.mean())
        if spec.replicates:
            metrics[f"{name}_interval"] = interval(metrics[name], mean_error(values))
    return metrics


# A metric of --metrics -> what computes it, by name as it stands in the record.
_METRICS: dict[str, Callable[[FeatureStatistics, Reference, Extractor, EvaluationSpec], dict[str, Any]]] = {
    "fid": _fid,
    "is": _is,
    "kid": _kid,
    "prdc": _prdc,
}
