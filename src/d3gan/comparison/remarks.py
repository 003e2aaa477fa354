"""What a reader must know before trusting a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

from d3gan.comparison.curves import is_distance
from d3gan.comparison.formatting import seeds_text
from d3gan.comparison.grouping import Condition
from d3gan.comparison.runs import Run
from d3gan.comparison.variants import LASTING_KEYS, VARIANT_KEYS
from d3gan.evaluation.metric_names import PUBLISHED_FID, metric_label, metrics_of, reasons_of


def remarks_on(condition: Condition, distance: str) -> list[str]:
    """What weakens the comparison under a condition.

    Args:
        condition: its runs.
        distance: what they are compared by; empty: nothing.
    """
    runs, texts = condition.runs, []
    if lacking := [run.name for run in runs if distance and distance not in run.evaluation]:
        texts.append(f"without {metric_label(distance)}, so not compared: {', '.join(lacking)}")
    for run in runs:
        failures: dict[str, list[tuple[int, str]]] = {}  # metric -> step and reason
        for line in run.evaluations:
            for metric, reason in reasons_of(line).items():
                failures.setdefault(metric, []).append((int(line["step"]), reason))
        texts += [
            f"{run.name}: {metric} not computed at {len(steps)} of {len(run.evaluations)} evaluations, first at step "
            f"{steps[0][0]:,}: {steps[0][1]}"
            for metric, steps in failures.items()
        ]
    if len({run.last_step for run in runs}) > 1:
        ends = {name: sorted({run.last_step for run in seeds.values()}) for name, seeds in condition.variants.items()}
        parts = (f"{name} {' and '.join(f'{step:,}' for step in steps)}" for name, steps in ends.items())
        texts.append(f"runs are of different length in iterations: {', '.join(parts)}")
    fewest = min(map(len, condition.variants.values()))
    if fewest == 2:  # of a single seed the verdict says that it decides nothing
        texts.append(f"a variant has only {seeds_text(fewest)}; intervals need several")
    for what, values in _circumstances(runs).items():
        if len(values) > 1:
            texts.append(f"runs differ in {what}: {', '.join(sorted(values))}")
    distances = {name for run in runs for name in metrics_of(run.evaluation) if is_distance(name)}
    word = distance.partition("_")[0]
    if others := sorted(name for name in distances - {distance, PUBLISHED_FID} if name.partition("_")[0] == word):
        labels = ", ".join(map(metric_label, others))
        texts.append(f"not compared, since most runs have {metric_label(distance)}: {labels}")
    return [f"{condition.name}: {text}." for text in texts]


def _circumstances(runs: Sequence[Run]) -> dict[str, set[str]]:
    """What runs that are compared should share: how they were evaluated, and on what they ran."""
    lines = [line for run in runs for line in run.evaluations]
    last = [run.sessions[-1] for run in runs if run.sessions]
    slower = ", so seconds are not comparable"
    sources: dict[str, tuple[Sequence[Mapping[str, Any]], str]] = {
        "the number of images evaluated": (lines, "num_samples"),
        "the weights evaluated": (lines, "generator"),
        f"the device{slower}": ([{"device": s.get("device_name") or s.get("device")} for s in last], "device"),
        f"the number of threads{slower}": (last, "threads"),
        "the number of processes": (last, "world_size"),
        f"compile{slower}": (last, "compile"),
        f"cuda_graph{slower}": (last, "cuda_graph"),
        "the images per step, so equal iterations are not equal images": (
            [{"images": run.images_per_step} for run in runs],
            "images",
        ),
    }
    return {what: {str(each[key]) for each in records if key in each} for what, (records, key) in sources.items()}


def remarks_on_left_out(runs: Sequence[Run], conditions: Sequence[Condition]) -> list[str]:
    """Names the runs that are left out, since another one has their variant and seed, and how to compare them."""
    compared = [run for condition in conditions for run in condition.runs]
    left_out = [run for run in runs if not any(run is other for other in compared)]
    if not left_out:
        return []
    remark = f"Left out, since another run has the same variant and seed: {', '.join(run.name for run in left_out)}."
    by_seed = {(run.dataset, run.variant, run.config.seed): run.config for run in compared}
    pairs = [(run.config, by_seed[run.dataset, run.variant, run.config.seed]) for run in left_out]
    changeable = [key for key in VARIANT_KEYS if key not in LASTING_KEYS]
    if keys := [key for key in changeable if any(getattr(a, key) != getattr(b, key) for a, b in pairs)]:
        remark += f" They differ in {', '.join(keys)}; to compare them, put +{keys[0]}=VALUE into the folder's name."
    return [remark]
