"""Projects training onto more processes than were measured, with the cost model of the all-reduce.

Weak scaling: every process keeps its batch size. A step on W processes takes the time for data and computation that
was measured on the largest number of processes, plus the part of the modelled communication that computation does not
hide. That part, 1 - overlap, is the measured over the modelled communication on the largest number of processes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from d3gan.errors import ConfigError
from d3gan.scaling.allreduce_model import Algorithm, CostModel, Fit, fit_held_out, measured_points
from d3gan.scaling.options import require_projectable


@dataclass(frozen=True)
class Curve:
    """One prediction for each number of workers."""

    step_seconds: list[float]
    images_per_second: list[float]
    efficiency: list[float]
    """Images per second and process, relative to one process alone."""


@dataclass(frozen=True)
class StepValidation:
    """Predicted and measured exposed communication per step, on a number of processes not used for the overlap."""

    workers: int
    predicted_communication_seconds: float
    measured_communication_seconds: float
    measured_step_seconds: float
    relative_error: float
    """|predicted - measured| communication over the measured step."""


@dataclass(frozen=True)
class Projection:
    """A model's training, projected onto more processes."""

    model: str
    batch_size: int
    """Per process."""
    measured_workers: int
    """The largest number of processes measured; data, computation and overlap come from it."""
    workers: list[int]
    ring: Curve
    tree: Curve
    overlap: float
    """The share of the modelled communication that computation hides, 0 to 1."""
    communication_ratio: float
    """Measured over modelled communication on ``measured_workers``; above 1 the projection is too optimistic."""
    step_validation: StepValidation | None
    """None where no second number of processes above 1 was measured."""


def rows_of(document: dict[str, Any], model_name: str, batch_size: int) -> list[dict[str, Any]]:
    """A model's rows by number of workers: of one batch size per process, or of one global one in strong mode."""
    key = "batch_size" if document["mode"] == "weak" else "global_batch_size"
    rows = [row for row in document["rows"] if row["model"] == model_name and row[key] == batch_size]
    return sorted(rows, key=lambda row: int(row["workers"]))


def project(
    document: dict[str, Any], model_name: str, batch_size: int, upto: int, model: CostModel | None = None
) -> Projection:
    """Projects a model's training onto powers of two up to ``upto``, and onto the numbers of workers measured.

    One process keeps its measured time, where there is one.

    Args:
        document: of weak scaling, with its all-reduces.
        model_name: as in the document's ``models``.
        batch_size: per process.
        upto: the largest number of workers.
        model: the fitted cost model; None: fitted to the document, with some sizes held out.

    Raises:
        ConfigError: strong scaling, nothing measured on two or more workers, too few message sizes, or ``upto`` is
            not more than the workers measured.
    """
    rows = rows_of(document, model_name, batch_size)
    if not rows:
        raise ConfigError(f"--project {upto}: no measurement of {model_name} at batch size {batch_size}")
    require_projectable(document["mode"], [row["workers"] for row in rows], upto)
    model = model or fit_held_out(measured_points(document)).model
    sizes, last = document["gradients"][model_name], rows[-1]
    swaps = _swaps_per_step(document, sizes, last["global_batch_size"] // last["workers"])
    modelled = _communication(model, sizes, last["workers"], swaps)
    ratio = _median(last, "communication_seconds") / modelled if modelled > 0 else math.inf
    overlap = min(max(1 - ratio, 0.0), 1.0)
    powers = {2**power for power in range(upto.bit_length()) if 2**power <= upto}
    workers = sorted(powers | {row["workers"] for row in rows})

    def curve(algorithm: Algorithm) -> Curve:
        exposed = [_communication(model, sizes, count, swaps, algorithm) * (1 - overlap) for count in workers]
        return _curve(rows, workers, exposed, batch_size)

    validation = _validate_step(model, sizes, rows, overlap, swaps)
    return Projection(
        model_name, batch_size, last["workers"], workers, curve("ring"), curve("tree"), overlap, ratio, validation
    )


def _median(row: dict[str, Any], name: str) -> float:
    return float(row[name]["median"])


def _swaps_per_step(document: dict[str, Any], sizes: dict[str, int], images: int) -> Callable[[int], float]:
    """Number of workers -> how often an MD-GAN's discriminators change places, per step of so many images each.

    More workers take fewer steps per epoch, and so swap more often. An epoch without a whole step counts as one step.
    """
    every = document.get("swap_every", 0) if "swap_bytes" in sizes else 0
    return lambda workers: 1 / (every * max(1, document["dataset_images"] // (images * workers))) if every else 0.0


def _communication(
    model: CostModel,
    sizes: dict[str, int],
    workers: int,
    swaps: Callable[[int], float],
    algorithm: Algorithm = "ring",
) -> float:
    """Seconds per step of its messages without overlap.

    Its all-reduces are gradients, and losses with BatchNorm statistics; an MD-GAN, which has one discriminator per
    worker, exchanges no gradients of discriminators, and their places from time to time.
    """
    names = ("generator_bytes", "discriminator_bytes", "exchange_bytes")
    reduced = sum(model.seconds(sizes[name], workers, algorithm) for name in names if sizes[name])
    if workers < 2 or "swap_bytes" not in sizes:
        return reduced
    return reduced + swaps(workers) * model.message_seconds(sizes["swap_bytes"])


def _curve(rows: list[dict[str, Any]], workers: list[int], exposed: list[float], batch_size: int) -> Curve:
    """The curve that follows from a step's exposed communication for each number of workers, which starts with 1."""
    last = rows[-1]
    alone = _median(last, "data_seconds") + _median(last, "compute_seconds")
    steps = [alone + seconds for seconds in exposed]
    if rows[0]["workers"] == 1:
        steps[0] = _median(rows[0], "step_seconds")
    rates = [count * batch_size / seconds for count, seconds in zip(workers, steps, strict=True)]
    return Curve(steps, rates, [steps[0] / seconds for seconds in steps])


def _validate_step(
    model: CostModel,
    sizes: dict[str, int],
    rows: list[dict[str, Any]],
    overlap: float,
    swaps: Callable[[int], float],
) -> StepValidation | None:
    """Predicts communication on the second-largest number of workers, if above 1, with the largest one's overlap."""
    if len(rows) < 2 or rows[-2]["workers"] < 2:
        return None
    row = rows[-2]
    predicted = _communication(model, sizes, row["workers"], swaps) * (1 - overlap)
    measured, step = _median(row, "communication_seconds"), _median(row, "step_seconds")
    return StepValidation(row["workers"], predicted, measured, step, abs(predicted - measured) / step)


def assumptions(document: dict[str, Any], fitted: Fit, projections: Sequence[Projection]) -> list[str]:
    """The assumptions of the projections, in short sentences to print below them."""
    count, hosts = projections[0].measured_workers, document["hosts"]
    workers = max(point.workers for point in fitted.points)
    model, held_out = fitted.model, fitted.held_out_error
    bandwidth = f"{model.beta / 1e9:.3g} GB/s" if math.isfinite(model.beta) else "no limit found"
    sentences = [
        f"No measurement beyond {count} workers.",
        f"All links are like those measured among {workers} workers on {hosts} host{'s' * (hosts != 1)}: "
        f"latency {model.alpha * 1e6:.3g} µs per hop, bandwidth {bandwidth}.",
        f"Data and computation take each process as long as at {count} workers.",
        "No stragglers, no congestion; one all-reduce for each network's gradients.",
        "Share of communication hidden behind computation, as measured at "
        f"{count} workers: {', '.join(f'{p.model} {p.overlap:.0%}' for p in projections)}.",
        f"Fit: relative error {_percent(fitted.error.median)} (median), {_percent(fitted.error.largest)} (largest); "
        f"message sizes held out of it: {_percent(held_out.median)} and {_percent(held_out.largest)}.",
    ]
    sentences += [
        f"{p.model}: one discriminator per worker; they change places every {document['swap_every']} epochs."
        for p in projections
        if "swap_bytes" in document["gradients"][p.model]
    ]
    return sentences + _warnings(document, fitted, projections)


def _warnings(document: dict[str, Any], fitted: Fit, projections: Sequence[Projection]) -> list[str]:
    """Sentences about these measurements where they fall short of the assumptions."""
    sentences = []
    for p in projections:
        if p.communication_ratio > 1:
            times = f"{p.communication_ratio:.1f} times" if math.isfinite(p.communication_ratio) else "more than"
            sentences.append(
                f"{p.model}: communication at {p.measured_workers} workers took {times} what the model gives; "
                "the projection is too optimistic."
            )
        if p.step_validation:
            check = p.step_validation
            sentences.append(
                f"{p.model} at {check.workers} workers: predicted communication is off by "
                f"{_percent(check.relative_error)} of the step."
            )
    largest = max(point.bytes for point in fitted.points)
    needed = max(max(document["gradients"][p.model].values()) for p in projections)
    if needed > largest:
        sizes = f"{needed / 1e6:.1f} MB; the largest measured one has {largest / 1e6:.1f} MB."
        sentences.append(f"The largest message of a step has {sizes}")
    return sentences


def _percent(share: float) -> str:
    if share < 0.001:
        return "under 0.1%"
    return f"{share * 100:.2g}%" if share < 0.995 else f"{share * 100:.0f}%"


def projection_record(document: dict[str, Any], upto: int) -> dict[str, Any]:
    """The ``projection`` entry of a scaling document: every model, at the first batch size, ready for JSON.

    Raises:
        ConfigError: as ``project``.
    """
    fitted = fit_held_out(measured_points(document))
    batch_size = document["batch_sizes"][0]
    projections = [project(document, name, batch_size, upto, fitted.model) for name in document["models"]]
    models = {}
    for projection in projections:
        models[projection.model] = record = asdict(projection)
        del record["model"], record["batch_size"]
        if not math.isfinite(record["communication_ratio"]):
            record["communication_ratio"] = None
    return {
        "upto": upto,
        "batch_size": batch_size,
        "alpha_seconds": fitted.model.alpha,
        # JSON has no infinity: null is a bandwidth without a limit, or a ratio to no communication.
        "bandwidth_bytes_per_second": fitted.model.beta if math.isfinite(fitted.model.beta) else None,
        "fit_relative_error": fitted.error._asdict(),
        "held_out_relative_error": fitted.held_out_error._asdict(),
        "models": models,
        "assumptions": assumptions(document, fitted, projections),
    }
