"""The published programs' own curves."""

import json
from importlib.resources import files
from typing import Any

from d3gan.comparison.runs import Run


def _steps_an_epoch(run: Run) -> float:
    last = run.metrics[-1] if run.metrics else {}
    return float(last.get("step", 0)) / float(last.get("epoch", 0) or 1)


def published_runs() -> list[dict[str, Any]]:
    """Model, dataset, batch_size and curves (a value an epoch) of the published programs' runs on one GPU.

    Their figure is ``PUBLISHED_FID``; the logs are of 2023.
    """
    text = (files("d3gan.comparison") / "published_curves.json").read_text(encoding="utf-8")
    runs: list[dict[str, Any]] = json.loads(text)["runs"]
    return runs
