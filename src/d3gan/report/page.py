"""The page's text: a comparison, its sample grids and its animations, put into the template."""

import base64
import hashlib
import importlib.resources
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from d3gan import __version__
from d3gan.comparison.results import Cell, Comparison, Drawing, Table
from d3gan.comparison.runs import Run
from d3gan.evaluation.metric_names import METRIC_LABELS, metric_label
from d3gan.report.embedded_images import Animation
from d3gan.report.inline_svg import inline_svg
from d3gan.report.reproduce import repeat_of, repeats, shared_environment
from d3gan.report.run_tables import differences_table, runs_table, shared_keys
from d3gan.report.sample_viewer import sample_viewer

logger = logging.getLogger("d3gan")

LARGEST_PAGE = 10_000_000
"""Bytes. Browsers, mail programs and code-hosting sites show pages up to this size; a larger page gets a warning."""
LARGEST_ANIMATION = 4_000_000
"""Bytes in the page, 3/4 of them as a file. Larger animations are left out."""


MOST_LINES = 2
"""Of the verdict, above the samples; further pairs are folded."""


class Chapter(NamedTuple):
    """Figures that answer one question."""

    title: str
    lead: str
    words: frozenset[str]
    """A figure belongs here if its name starts with one of these words."""


_CHAPTERS = (
    Chapter(
        "Quality through training",
        "How good the images are as training proceeds.",
        frozenset({*METRIC_LABELS, "high", "reverse"}),
    ),
    Chapter(
        "Time to a given quality",
        "How long each model takes to reach a given quality.",
        frozenset({"time", "reach", "reached", "iteration", "iterations", "cost", "equal", "paired"}),
    ),
    Chapter(
        "Losses, and why they mislead",
        "What the networks minimise. Losses show whether training is stable, not whether images are good.",
        frozenset({"loss", "losses", "generator", "discriminator", "correlation"}),
    ),
    Chapter(
        "The discriminators",
        "How much each discriminator trained the generator, what it distinguishes, and how far they agree.",
        frozenset(
            {"weights", "discriminators", "inequality", "gap", "agreement", "separation", "gradients", "augmentation"}
        ),
    ),
    Chapter(
        "Speed",
        "Images per second, and how they scale with the number of processes.",
        frozenset({"throughput", "speed", "speedup", "scaling", "epoch", "utilization", "batch"}),
    ),
    Chapter("Others", "Figures that belong to none of the chapters above.", frozenset()),
)


def page_of(comparison: Comparison, animations: Sequence[Animation] = ()) -> str:
    """The page's text. It says, and logs, what it leaves out, and whether it is larger than ``LARGEST_PAGE``.

    Args:
        comparison: of at least one run.
        animations: to show, unless they take more than ``LARGEST_ANIMATION``.
    """
    samples = sample_viewer(comparison.runs)
    warning = list(samples.left_out)
    large = [animation for animation in animations if len(animation.moving) > LARGEST_ANIMATION]
    if large:
        names = ", ".join(animation.name for animation in large)
        warning.append(f"leaves out animations of more than {LARGEST_ANIMATION / 1e6:g} MB ({names})")
    values = _values(comparison) | {
        "slider_groups": samples.groups,
        "frames": samples.frames,
        "animations": [animation for animation in animations if animation not in large],
    }
    remarks = [*comparison.remarks, *samples.unreadable]
    page = _render(values, remarks)
    if (size := len(page.encode())) > LARGEST_PAGE:
        limit = f"{LARGEST_PAGE / 1e6:g} MB"
        warning.append(f"takes {size / 1e6:.1f} MB (pages above {limit} are hard to share; give fewer runs)")
    if warning:
        remarks.append(f"This page {'; it '.join(warning)}.")
        logger.warning(remarks[-1])
        page = _render(values, remarks)
    return page


def _render(values: Mapping[str, Any], remarks: Sequence[str]) -> str:
    text: str = _template().render(values, remarks=remarks)
    # A file's name may hold bytes that are no UTF-8; Python keeps them as halves of characters.
    return text.encode("utf-8", "replace").decode()


def _values(comparison: Comparison) -> dict[str, Any]:
    """All that the template shows except images and remarks."""
    runs = comparison.runs
    templates = importlib.resources.files("d3gan.report") / "templates"
    names = ("report.css", "theme.js", "report.js")
    style, theme, script = ((templates / name).read_text(encoding="utf-8").strip() for name in names)
    script = f"{theme}\n{script}"
    differences = differences_table(runs)
    figures = _figures(comparison.drawings)
    # Not folded: the metric that the runs are compared by, and the next answer: ratios, or else a loss.
    quality, others = ([each for each in figures if (each["chapter"] == 0) == first] for first in (True, False))
    curves = quality[:1] + others[:1]
    return {
        "version": __version__,
        "date": f"{datetime.now(UTC):%-d %B %Y}",
        "title": _question(runs),
        "subject": f"{_listed(run.variant for run in runs)} on {_listed(run.dataset for run in runs)}",
        "verdict": comparison.verdict,
        "lines": comparison.lines,
        "most_lines": MOST_LINES,
        "about": _about(comparison),
        "curves": curves,
        "chapters": _chapters([figure for figure in figures if figure not in curves]),
        "final": next((_table(table) for table in comparison.tables if table.name == "final"), None),
        "tables": [_table(table) for table in comparison.tables if table.name != "final"],
        "runs": _table(runs_table(runs)),
        "differences": _table(differences) if len(differences.rows) > 1 else None,
        "shared": shared_keys(runs),
        "environment": shared_environment(runs),
        "repeat": repeat_of(comparison),
        "repeats": repeats(runs),
        "document": finite(comparison.document),
        # Files of this package: with the figures, the only text that is not escaped.
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("d3gan.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False, "separators": (",", ":")}
    environment.filters["number"] = "{:,}".format
    return environment.get_template("report.html.jinja")


def _question(runs: Sequence[Run]) -> str:
    """The question that the page answers, its title."""
    if len({run.config.recipe.discriminators for run in runs}) > 1:
        return "Does the second discriminator pay?"
    return "How good are the samples?"


def _listed(words: Iterable[Any]) -> str:
    """The different words as an English list: ``a, b and c``."""
    *first, last = map(str, dict.fromkeys(words))
    return f"{', '.join(first)} and {last}" if first else last


def _about(comparison: Comparison) -> str:
    """The runs in one line: how many, their batch sizes, seeds and evaluations, and what they are compared by."""
    runs = comparison.runs
    sizes, seeds = ({getattr(run.config, key) for run in runs} for key in ("batch_size", "seed"))
    evaluations = sum(len(run.evaluations) for run in runs)
    count = f"{len(runs)} runs" if len(runs) > 1 else "One run"
    parts = [
        count,
        f"batch size {_listed(sorted(sizes))}",
        f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {_listed(seeds)}",
        f"{evaluations:,} evaluations" if evaluations else "never evaluated",
        *dict.fromkeys(metric_label(each["metric"]) for each in comparison.document.get("paired", ())),
    ]
    return " · ".join(parts)


def _figures(drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
    """The figures in order; those of a series are panels of one, of which the page shows one at a time."""
    figures: dict[str, dict[str, Any]] = {}
    for number, drawing in enumerate(drawings, 1):
        svg = inline_svg(drawing.draw(), f"figure-{number}-", drawing.title, drawing.caption)
        panel = {"name": drawing.name, "axis": drawing.axis, "title": drawing.title, "caption": drawing.caption}
        word = re.split(r"[^a-z]", drawing.name, maxsplit=1)[0]
        chapter = next((i for i, chapter in enumerate(_CHAPTERS) if word in chapter.words), len(_CHAPTERS) - 1)
        figure = figures.setdefault(
            drawing.series or drawing.name,
            {"id": number, "chapter": chapter, "title": drawing.series or drawing.title, "panels": []},
        )
        figure["panels"].append(panel | {"svg": Markup(svg)})  # noqa: S704 (escaped by inline_svg)
    return list(figures.values())


def _chapters(figures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The figures by the question they answer."""
    chapters = [
        {"title": chapter.title, "lead": chapter.lead, "figures": [each for each in figures if each["chapter"] == i]}
        for i, chapter in enumerate(_CHAPTERS)
    ]
    return [chapter for chapter in chapters if chapter["figures"]]


def _table(table: Table) -> dict[str, Any]:
    """A table with the values to sort by; what all rows share is in the caption, and no column.

    A column that holds a number is aligned to the right; an interval may stand below its mean.
    """
    texts = [{row[i].text for row in table.rows} for i in range(len(table.columns))]
    columns = [i for i, each in enumerate(texts) if len(each) > 1 or len(table.rows) == 1] or [0]
    shared = [f"{table.columns[i]} {texts[i].pop()}" for i in range(len(texts)) if i not in columns and texts[i]]
    caption = f"In all rows: {', '.join(shared)}. {table.caption}" if shared else table.caption
    rows = [[_cell(row[i]) for i in columns] for row in table.rows]
    headings = [
        {"text": table.columns[i], "numeric": any(row[i].value is not None for row in table.rows)} for i in columns
    ]
    name = re.sub(r"[^a-z0-9]+", "-", table.name.lower())
    return {"id": name, "title": table.title, "caption": caption, "columns": headings, "rows": rows}


def _cell(cell: Cell) -> dict[str, Any]:
    """A cell with its text in two parts, between which a line may end: a number, and its interval in brackets."""
    first, bracket, rest = cell.text.partition(" (") if cell.value is not None else (cell.text, "", "")
    return {"text": first, "interval": f"({rest}" if bracket else "", "value": finite(cell.value)}


def finite(value: Any) -> Any:
    """The same JSON value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
