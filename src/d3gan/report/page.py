"""The page's text: what a comparison and its pictures say, put into the template."""

import base64
import hashlib
import importlib.resources
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
from d3gan.evaluation.metric_names import METRIC_LABELS
from d3gan.report.embedded_images import Animation, Grids, Plan
from d3gan.report.inline_svg import inline_svg
from d3gan.report.reproduce import repeats, shared_environment
from d3gan.report.run_tables import differences_table, runs_table, shared_settings
from d3gan.report.sample_viewer import sample_groups


class Chapter(NamedTuple):
    """Figures that answer one question."""

    title: str
    lead: str
    words: frozenset[str]
    """A figure whose name starts with one of these words belongs here."""


_CHAPTERS = (
    Chapter(
        "Quality through training",
        "How good the images are as training goes on, counted in iterations, images, seconds and arithmetic.",
        frozenset(METRIC_LABELS),
    ),
    Chapter(
        "Time to a given quality",
        "How long each model takes to images as good as a given FID.",
        frozenset({"time", "reach", "reached", "iteration", "iterations", "cost", "equal", "paired"}),
    ),
    Chapter(
        "Errors, and why they mislead",
        "What the networks minimise. It says whether training is stable, not whether images are good.",
        frozenset({"error", "errors", "generator", "discriminator", "correlation", "loss"}),
    ),
    Chapter(
        "Which discriminator was selected",
        "How often each discriminator trained the generator, and how unequal they are.",
        frozenset({"selected", "selection", "discriminators", "inequality", "gap"}),
    ),
    Chapter(
        "Speed",
        "Images a second, and what more processes bring.",
        frozenset({"throughput", "speed", "speedup", "scaling", "epoch", "utilization", "batch"}),
    ),
    Chapter("More figures", "What belongs to none of the above.", frozenset()),
)


class Contents:
    """All of a page but its pictures; made once, however often the page is tried at another size.

    Args:
        comparison: of at least one run.
        remarks: what a reader must know beside the comparison's own remarks.
    """

    def __init__(self, comparison: Comparison, remarks: Sequence[str] = ()):
        runs = comparison.runs
        style, script = (_part(f"report.{kind}") for kind in ("css", "js"))
        self._remarks = [*comparison.remarks, *remarks]
        differences = differences_table(runs)
        self._values: dict[str, Any] = {
            "version": __version__,
            "date": f"{datetime.now(UTC):%-d %B %Y}",
            "title": _question(runs),
            "subject": f"{_listed(run.variant for run in runs)} on {_listed(run.dataset for run in runs)}",
            "verdict": comparison.verdict,
            "about": _about(runs),
            "chapters": _chapters(comparison.drawings),
            "tables": [_shown(table) for table in comparison.tables],
            "runs": _shown(runs_table(runs)),
            "differences": _shown(differences) if len(differences.rows) > 1 else None,
            "shared": shared_settings(runs),
            "environment": shared_environment(runs),
            "repeats": repeats(runs),
            "document": finite(comparison.document),
            "style": Markup(style),
            "script": Markup(script),
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        }

    def page(self, grids: Iterable[Grids], plan: Plan, animations: Sequence[Animation], *remarks: str) -> str:
        """The page with these pictures, as the plan leaves them, and some more remarks."""
        groups, frames = sample_groups(grids, plan)
        pictures = {"groups": groups, "frames": frames, "animations": animations}
        text: str = _template().render(self._values | pictures | {"remarks": [*self._remarks, *remarks]})
        # A file's name may hold bytes that are no UTF-8; Python keeps them as halves of characters.
        return text.encode("utf-8", "replace").decode()


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


def _part(name: str) -> str:
    """A file that stands in the page as it is: our own, and the only text that is not escaped, beside figures."""
    return (importlib.resources.files("d3gan.report") / "templates" / name).read_text(encoding="utf-8").strip()


def _question(runs: Sequence[Run]) -> str:
    """What the page answers."""
    if len({run.config.recipe.discriminators for run in runs}) > 1:
        return "Does the second discriminator pay?"
    return "How good are the images?"


def _listed(words: Iterable[Any]) -> str:
    """Different words as people write them: ``a, b and c``."""
    *first, last = map(str, dict.fromkeys(words))
    return f"{', '.join(first)} and {last}" if first else last


def _about(runs: Sequence[Run]) -> str:
    """What the page speaks of, in a line."""
    sizes, seeds = ({getattr(run.config, key) for run in runs} for key in ("batch_size", "seed"))
    evaluations = sum(len(run.evaluations) for run in runs)
    count = f"{len(runs)} runs" if len(runs) > 1 else "One run"
    parts = [
        count,
        f"batch size {_listed(sorted(sizes))}",
        f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {_listed(seeds)}",
        f"{evaluations:,} evaluations" if evaluations else "never evaluated",
    ]
    return " · ".join(parts)


def _chapters(drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
    """The figures by the question they answer."""
    found: list[dict[str, Any]] = [
        {"title": chapter.title, "lead": chapter.lead, "drawings": []} for chapter in _CHAPTERS
    ]
    for number, drawing in enumerate(drawings, 1):
        word = re.split(r"[^a-z]", drawing.name, maxsplit=1)[0]
        place = next((i for i, chapter in enumerate(_CHAPTERS) if word in chapter.words), -1)
        svg = inline_svg(drawing.draw(), f"figure-{number}-", drawing.title, drawing.caption)
        shown = drawing._asdict() | {"svg": Markup(svg)}
        found[place]["drawings"].append(shown)
    return [chapter for chapter in found if chapter["drawings"]]


def _shown(table: Table) -> dict[str, Any]:
    """A table with what sorts it; a column with a number in it stands to the right."""
    rows = [[Cell(cell.text, _finite_number(cell.value)) for cell in row] for row in table.rows]
    columns = [
        {"text": text, "numeric": any(row[place].value is not None for row in rows)}
        for place, text in enumerate(table.columns)
    ]
    name = re.sub(r"[^a-z0-9]+", "-", table.name.lower())
    return {"id": name, "title": table.title, "caption": table.caption, "columns": columns, "rows": rows}


def _finite_number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def finite(value: Any) -> Any:
    """The same JSON value with null for what JSON has no number for."""
    if isinstance(value, float):
        return _finite_number(value)
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
