"""One evaluation: fake images through an extractor, their features against a reference's, figures with names."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, ExternalError, PeerLostError, first_line
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.feature_statistics import SPLITS, Collected, Source, collect, grey_to_colour, order_of
from d3gan.evaluation.metric_names import NOT_COMPUTED, metric_name
from d3gan.evaluation.metrics.errors import frechet_error, interval, kernel_error, mean_error, score_error
from d3gan.evaluation.metrics.fid import frechet_distance
from d3gan.evaluation.metrics.kid import kernel_distance
from d3gan.evaluation.metrics.prdc import NEAREST, neighbours
from d3gan.evaluation.reference import Reference
from d3gan.images import to_uint8
from d3gan.models.dcgan import Generator
from d3gan.progress_bar import progress_bar
from d3gan.randomness import draw_latents, stream
from d3gan.sampling.generate import raw_sample

# Latents are drawn this many at a time, each time from a stream of its own, so that any process can draw any of them.
LATENTS = 250


@dataclass(frozen=True)
class EvaluationSpec:
    """What an evaluation is to compute."""

    metrics: tuple[str, ...]
    """Some of fid, is, kid, prdc."""
    num_samples: int
    """Fake images."""
    replicates: int = 0
    """Bootstrap replicates of each interval; 0: no intervals."""


def fakes_of(generator: Generator, seed: int) -> Source:
    """A generator's images: eval mode, latents decided by the seed and the image's number alone.

    They are rounded to uint8 and clipped, never stretched; see ``d3gan.images.to_uint8``.
    """

    def images(start: int, stop: int) -> torch.Tensor:
        blocks = []
        for block in range(start // LATENTS, -(-stop // LATENTS)):
            latents = draw_latents(LATENTS, generator.nz, seed, "evaluation", block, device="cpu")
            first = block * LATENTS
            blocks.append(latents[max(start - first, 0) : stop - first])
        made = raw_sample(generator, torch.cat(blocks))
        if not made.isfinite().all():  # as 8-bit images they would pass for black ones
            raise ExternalError("the generator's images are not finite numbers: its training has diverged")
        return grey_to_colour(to_uint8(made))

    return images


def evaluate(
    source: Source,
    wanted: EvaluationSpec,
    reference: Reference | None,
    extractor: Extractor,
    group: Group,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Any] | None:
    """Measures fake images; all processes of the group must call it.

    What cannot be computed of these images (they are not finite, memory runs out, …) is no error: the record says so,
    metric by metric with the reason, under ``NOT_COMPUTED``.

    Args:
        source: the fake images.
        wanted: what to compute.
        reference: the real images' statistics on rank 0; elsewhere it is not looked at.
        extractor: what makes features of them.
        group: the processes.
        advance: called with the number of images done since the last call.

    Returns:
        On rank 0 the record: what was measured against what, and the figures by name. None elsewhere.

    Raises:
        ConfigError: a metric needs what the extractor or the reference lacks.
        PeerLostError: another process is gone.
    """
    refuse_impossible(wanted, reference if group.is_main else None, extractor)
    fakes, reasons = None, dict[str, str]()
    with progress_bar("features of fake images", wanted.num_samples, unit="images") as move:

        def done(images: int) -> None:
            move(images)
            advance(images)

        score, everything = "is" in wanted.metrics, wanted.replicates > 0
        try:
            fakes = collect(
                source, wanted.num_samples, extractor, group, score=score, everything=everything, advance=done
            )
        except PeerLostError:
            raise
        except ExternalError as error:  # in all processes alike
            reasons = dict.fromkeys(wanted.metrics, str(error))
    if not group.is_main:
        return None
    assert reference is not None  # rank 0 has it
    record: dict[str, Any] = {
        "features": extractor.name,
        "reference": reference.described,
        "reference_images": reference.count,
        "num_samples": wanted.num_samples,
    }
    if fakes is not None:
        for metric in wanted.metrics:
            try:
                record |= _MEASURES[metric](fakes, reference, extractor, wanted)
            except ExternalError as error:
                reasons[metric] = str(error)
            except (RuntimeError, MemoryError, np.linalg.LinAlgError) as error:  # memory, or a solver
                reasons[metric] = first_line(error)
    return record | ({NOT_COMPUTED: reasons} if reasons else {})


def refuse_impossible(wanted: EvaluationSpec, reference: Reference | None, extractor: Extractor) -> None:
    """Checks, before any work, that the extractor and the reference have what the metrics need.

    Raises:
        ConfigError: they have not.
    """
    if "is" in wanted.metrics and not extractor.classes:
        raise ConfigError(f"metrics: is needs class logits, which {extractor.name} does not give; leave it out")
    for metric, fewest in (("is", SPLITS), ("prdc", NEAREST + 1)):
        if metric in wanted.metrics and wanted.num_samples < fewest:
            others = ",".join(other for other in wanted.metrics if other != metric) or "fid"
            raise ConfigError(
                f"metrics: {metric} needs at least {fewest} images, not {wanted.num_samples} (num_samples); ask for "
                f"more, or leave it out: {others}"
            )
    features_needed = [metric for metric in ("kid", "prdc") if metric in wanted.metrics]
    if reference is not None and reference.kept is None and features_needed:
        raise ConfigError(
            f"metrics: {', '.join(features_needed)}: {reference.described} holds no features, only mu and sigma; "
            "leave them out, or give images as the reference"
        )


def warning_of_few(count: int, wanted: EvaluationSpec, extractor: Extractor) -> str:
    """What to say of a Fréchet distance from too few images, once; empty where there are enough.

    Args:
        count: the smaller number of images of the two sets.
        wanted: what is computed.
        extractor: what makes the features.
    """
    if "fid" not in wanted.metrics or count > extractor.feature_size:
        return ""
    return (
        f"warning: {count:,} images for {extractor.feature_size:,} features: FID is biased upwards, its "
        "covariance singular; compare it with figures from as many images alone"
    )


def _fid(fakes: Collected, reference: Reference, extractor: Extractor, wanted: EvaluationSpec) -> dict[str, Any]:
    name = metric_name("fid", extractor.name, reference.name)
    found = {name: frechet_distance(reference.gaussian, fakes.moments.gaussian())}
    if fakes.features is None:
        return found
    with progress_bar("bootstrap", wanted.replicates, unit="replicates") as advance:
        error = frechet_error(
            fakes.features, reference.gaussian, wanted.replicates, stream(0, "bootstrap", 0), advance
        )
    return found | _interval(name, found[name], error)


def _is(fakes: Collected, _reference: Reference, extractor: Extractor, wanted: EvaluationSpec) -> dict[str, Any]:
    assert fakes.score is not None  # asked for
    name = metric_name("is", extractor.name)
    score, deviation = fakes.score
    found = {name: score, f"{name}_deviation": deviation}
    if fakes.logits is None:
        return found
    order = order_of(len(fakes.logits))
    error = score_error(fakes.logits, order, SPLITS, wanted.replicates, stream(0, "bootstrap", 1))
    return found | _interval(name, score, error)


def _kid(fakes: Collected, reference: Reference, extractor: Extractor, wanted: EvaluationSpec) -> dict[str, Any]:
    assert reference.kept is not None  # refuse_impossible looked
    name = metric_name("kid", extractor.name, reference.name)
    distance = kernel_distance(reference.kept, fakes.kept, stream(0, "KID subsets"))
    found = {name: distance.mean, "subset_size": distance.subset_size}
    if distance.deviation is not None:
        found[f"{name}_deviation"] = distance.deviation
    if not wanted.replicates:
        return found
    return found | _interval(name, distance.mean, kernel_error(reference.kept, fakes.kept, distance))


def _prdc(fakes: Collected, reference: Reference, extractor: Extractor, wanted: EvaluationSpec) -> dict[str, Any]:
    assert reference.kept is not None  # refuse_impossible looked
    found: dict[str, Any] = {}
    for metric, values in dataclasses.asdict(neighbours(reference.kept, fakes.kept)).items():
        name = metric_name(metric, extractor.name, reference.name)
        found[name] = float(values.mean())
        if wanted.replicates:
            found |= _interval(name, found[name], mean_error(values))
    return found


def _interval(name: str, value: float, error: float) -> dict[str, list[float]]:
    return {f"{name}_interval": interval(value, error)}


# Metric -> what computes its figures from the fakes, the reference, the extractor and what is wanted.
_MEASURES: dict[str, Callable[[Collected, Reference, Extractor, EvaluationSpec], dict[str, Any]]] = {
    "fid": _fid,
    "is": _is,
    "kid": _kid,
    "prdc": _prdc,
}
