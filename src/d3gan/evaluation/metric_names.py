"""What figures are called. Imports no torch: plots and reports read the names back.

A figure's name says all that decides whether two figures may be compared: the metric, the extractor its features come
from, and the real images it was measured against; ``fid_inception_train``, ``kid_efficientnet-lite0_test``,
``is_inception`` (the Inception Score knows no real images).
"""

import re
from collections.abc import Mapping
from typing import Any

# Metric -> how it is written; the order is that of tables.
METRIC_NAMES = {
    "fid": "FID",
    "is": "IS",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
# Key of a record: metric -> why it could not be computed. Not there where all could.
NOT_COMPUTED = "not_computed"
# The published programs' own figure, named as in the log files that came with them.
PUBLISHED_FID = "fid_64_features_one_batch"
_PUBLISHED_LABEL = "FID as published (64 features, one batch)"


def figure_name(metric: str, extractor: str, reference: str = "") -> str:
    """The name of a figure: metric, extractor and, for all metrics but the Inception Score, reference."""
    parts = [metric, _word(extractor)]
    return "_".join(parts if metric == "is" else [*parts, _word(reference)])


def _word(name: str) -> str:
    """A name as one part of a figure's name: letters, digits, dots and hyphens."""
    return re.sub(r"[^\w.]+|_", "-", name).strip("-") or "unnamed"


def figure_label(name: str) -> str:
    """A figure's name for people: ``FID (inception, train)``; other names are returned as they are."""
    if name == PUBLISHED_FID:
        return _PUBLISHED_LABEL
    metric, _, rest = name.partition("_")
    if metric not in METRIC_NAMES or not rest:
        return name
    return f"{METRIC_NAMES[metric]} ({', '.join(rest.split('_'))})"


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The figures in an evaluation's record, without what describes them (deviations, intervals, counts)."""
    figures = {
        name: value
        for name, value in record.items()
        if name.partition("_")[0] in METRIC_NAMES and not name.endswith(("_deviation", "_interval"))
    }
    order = list(METRIC_NAMES)
    return dict(sorted(figures.items(), key=lambda item: order.index(item[0].partition("_")[0])))


def text_of(record: Mapping[str, Any], name: str) -> str:
    """One figure of a record as text: value, deviation where there is one, interval where one was asked for."""
    digits = 5 if name.startswith("kid_") else 2 if name.startswith("fid_") else 3
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
    words: dict[Any, str] = {PUBLISHED_FID: _PUBLISHED_LABEL, "prdc": "precision, recall, density, coverage"}
    words |= METRIC_NAMES
    return {words.get(metric, str(metric)): str(reason) for metric, reason in reasons.items()}


def one_line(record: Mapping[str, Any]) -> str:
    """All figures of a record in one line, what they share at its end: ``FID 9.87, IS 8.1 (inception, test)``.

    All of a record's figures have one extractor, and all but the Inception Score one reference. What could not be
    computed follows with the reason: ``FID not computed: …``.
    """
    figures = figures_of(record)
    own = [name for name in figures if name != PUBLISHED_FID]
    shared = max((name.partition("_")[2] for name in own), key=len, default="")
    parts = [f"{METRIC_NAMES[name.partition('_')[0]]} {text_of(record, name)}" for name in own]
    line = [f"{', '.join(parts)} ({', '.join(shared.split('_'))})"] if parts else []
    if PUBLISHED_FID in figures:
        line.append(f"{figure_label(PUBLISHED_FID)} {record[PUBLISHED_FID]:.2f}")
    by_reason: dict[str, list[str]] = {}
    for metric, reason in reasons_of(record).items():
        by_reason.setdefault(reason, []).append(metric)
    line += [f"{' and '.join(metrics)} not computed: {reason}" for reason, metrics in by_reason.items()]
    return ", ".join(line)
