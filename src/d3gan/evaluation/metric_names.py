"""Names of metrics, in records and for people. Imports no torch: plots and reports read the names back.

A metric's name says all that decides whether two values may be compared: the metric, the extractor its features come
from, and the real images it was measured against; ``fid_inception_train``, ``kid_efficientnet-lite0_test``,
``is_inception`` (the Inception Score uses no real images); ``modes_ring8`` (data whose modes are known).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Metric -> how people write it; the order is that of tables.
METRIC_LABELS = {
    "fid": "FID",
    "is": "IS",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "authenticity": "authenticity",
    "modes": "modes",
    "quality": "high-quality share",
    "kl": "reverse KL",
}
_MODE_METRICS = ("modes_", "quality_", "kl_")
# Key of a record: metric -> why it could not be computed. Absent where all could.
NOT_COMPUTED = "not_computed"
# The published programs' own FID, named as in the log files that came with them.
PUBLISHED_FID = "fid_64_features_one_batch"
_PUBLISHED_LABEL = "FID as in the D3GAN program (64 features, one batch)"


def metric_name(metric: str, extractor: str, reference: str = "") -> str:
    """The name of a value in a record: metric, extractor and reference; the Inception Score has no reference.

    Of modes the second part is the data whose modes they are, and there is no third.
    """
    parts = [metric, extractor, reference] if reference else [metric, extractor]
    # Underscores separate the parts, so none may be inside one.
    return "_".join(re.sub(r"[^\w.]+|_", "-", part).strip("-") or "unnamed" for part in parts)


def metric_label(name: str) -> str:
    """A metric's name for people: ``FID (inception, train)``. Returns other names unchanged."""
    if name == PUBLISHED_FID:
        return _PUBLISHED_LABEL
    metric, _, rest = name.partition("_")
    if metric not in METRIC_LABELS or not rest:
        return name
    return f"{METRIC_LABELS[metric]} ({', '.join(rest.split('_'))})"


def shared_word(names: Iterable[str], otherwise: str = "distance") -> str:
    """How people write the metric of these names, without what follows in brackets; if they differ, ``otherwise``."""
    words = {METRIC_LABELS.get(name.partition("_")[0], otherwise) for name in names}
    return words.pop() if len(words) == 1 else otherwise


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in an evaluation's record by name, without their deviations, intervals and counts."""
    metrics = {
        name: value
        for name, value in record.items()
        if name.partition("_")[0] in METRIC_LABELS and not name.endswith(("_deviation", "_interval"))
    }
    order = list(METRIC_LABELS)
    return dict(sorted(metrics.items(), key=lambda item: order.index(item[0].partition("_")[0])))


def metric_text(record: Mapping[str, Any], name: str) -> str:
    """One metric of a record as text: its value, and its deviation and interval if the record has them."""
    digits = {"kid": 5, "fid": 2, "modes": 0}.get(name.partition("_")[0], 3)
    text = f"{record[name]:.{digits}f}"
    if f"{name}_deviation" in record:
        text += f" ± {record[f'{name}_deviation']:.{digits}f}"
    if f"{name}_interval" in record:
        low, high = record[f"{name}_interval"]
        text += f"  95 % interval {low:.{digits}f} to {high:.{digits}f}"
    return text


def reasons_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The metrics that could not be computed, as people write them, and the reason of each."""
    reasons = record.get(NOT_COMPUTED)
    if not isinstance(reasons, Mapping):
        return {}
    labels: dict[Any, str] = {
        PUBLISHED_FID: _PUBLISHED_LABEL,
        "prdc": "precision, recall, density, coverage, authenticity",
    }
    labels |= METRIC_LABELS
    return {labels.get(metric, str(metric)): str(reason) for metric, reason in reasons.items()}


def one_line(record: Mapping[str, Any]) -> str:
    """All metrics of a record in one line, with what they share at its end: ``FID 9.87, IS 8.1 (inception, test)``.

    All metrics by features have one extractor, and all but the Inception Score one reference; those of modes have
    the data. What could not be computed follows with the reason: ``FID not computed: …``.
    """
    metrics = metrics_of(record)
    groups: dict[bool, list[str]] = {}
    for name in metrics:
        if name != PUBLISHED_FID:
            groups.setdefault(name.startswith(_MODE_METRICS), []).append(name)
    line = []
    for names in groups.values():
        shared = max((name.partition("_")[2] for name in names), key=len)
        parts = [f"{METRIC_LABELS[name.partition('_')[0]]} {metric_text(record, name)}" for name in names]
        line.append(f"{', '.join(parts)} ({', '.join(shared.split('_'))})")
    if PUBLISHED_FID in metrics:
        line.append(f"{metric_label(PUBLISHED_FID)} {record[PUBLISHED_FID]:.2f}")
    by_reason: dict[str, list[str]] = {}
    for metric, reason in reasons_of(record).items():
        by_reason.setdefault(reason, []).append(metric)
    line += [f"{' and '.join(labels)} not computed: {reason}" for reason, labels in by_reason.items()]
    return ", ".join(line)
