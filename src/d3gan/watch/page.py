"""The page's text: the whole page once, then the parts of it that change."""

import importlib.resources
import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from d3gan.evaluation.metric_names import metric_label
from d3gan.formatting import duration
from d3gan.version import __version__
from d3gan.watch.charts import MOST_CURVES, Chart, chart_of, short
from d3gan.watch.runs import WatchedFolder, WatchedRun, column, numbers

POLL_SECONDS = 1.0
STATES = {
    "starting": "It is about to train: it fetches or prepares its data, or compiles.",
    "training": "A process trains it.",
    "finished": "All its steps are done.",
    "not begun": "Its folder is there; nothing was trained yet.",
    "stopped": "No process trains it: it was stopped, or killed. The command that began it resumes it.",
    "stopped?": "Nothing was written for a while, and whether a process on another machine trains it cannot be seen.",
}
_SHEETS = ("report.css", "watch.css")
_SCRIPTS = ("theme.js", "watch.js")


class Part(NamedTuple):
    """A part of the page."""

    html: str
    stamp: object
    """It is sent again when this changes: its text, or for what holds other parts the list of them."""
    version: int
    """The page's version since which it is as it is."""


class LivePage:
    """The page about a folder. All methods may be called by several threads.

    Args:
        path: a run directory, or a folder that holds some.
    """

    def __init__(self, path: Path):
        self.folder = WatchedFolder(path)
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}
        self._version, self._looked = 0, -math.inf
        self._signature: object = None
        self._of_runs: dict[str, tuple[object, dict[str, str]]] = {}  # key -> signature, parts
        environment = _environment()
        self._template = environment.get_template("watch.html.jinja")
        self._macros: Any = environment.get_template("parts.html.jinja").module

    def html(self) -> str:
        """The whole page."""
        with self._lock:
            self._look()
            parts = {name: part.html for name, part in self._parts.items()}
            values = {"title": self.folder.path.resolve().name, "version": self._version, "program": __version__}
            return _text(self._template.render(values, parts=parts, sheets=_SHEETS, scripts=_SCRIPTS))

    def news(self, since: int) -> tuple[int, list[tuple[str, str]]]:
        """What changed since a version: the version now, and name and HTML of each part, outer ones first."""
        with self._lock:
            self._look()
            changed = [(name, part.html) for name, part in self._parts.items() if part.version > since]
            return self._version, changed

    def run(self, key: str) -> WatchedRun | None:
        """The shown run with a key."""
        with self._lock:
            return next((run for run in self.folder.runs if run.key == key), None)

    def runs(self) -> list[WatchedRun]:
        """The runs that are shown."""
        with self._lock:
            return list(self.folder.runs)

    def sample(self, key: str, step: int) -> bytes:
        """The PNG of a run's sample grid.

        Raises:
            OSError: there is none.
        """
        run = self.run(key)
        if run is None:
            raise FileNotFoundError(key)
        return run.read_sample(step)

    def _look(self) -> None:
        """Reads what changed and renders it; at most once a poll, whoever asks."""
        if time.monotonic() - self._looked < 0.9 * POLL_SECONDS:
            return
        self.folder.look()
        self._looked = time.monotonic()
        signature = (self.folder.left_out, *(run.signature for run in self.folder.runs))
        if signature == self._signature:
            return
        self._signature = signature
        parts = {}
        for name, (html, stamp) in self._rendered():
            before = self._parts.get(name)
            if before is None or before.stamp != stamp:
                parts[name] = Part(html, stamp, self._version + 1)
            else:
                parts[name] = Part(html, stamp, before.version)
        if any(part.version > self._version for part in parts.values()):
            self._version += 1
        self._parts = parts

    def _rendered(self) -> Iterator[tuple[str, tuple[str, object]]]:
        """Name, HTML and stamp of each part, outer ones before those in them."""
        runs, macros = self.folder.runs, self._macros
        keys = tuple(run.key for run in runs)
        self._of_runs = {run.key: self._parts_of(run) for run in runs}
        inner = {name: html for _, parts in self._of_runs.values() for name, html in parts.items()}
        status = _text(macros.status(_counts(runs), self.folder.left_out, _all_done(runs)))
        yield "status", (status, status)
        yield "cards", (_text(macros.cards(runs, inner, self.folder.path)), keys)
        quality = _text(macros.drawings(quality_charts(runs)))
        yield "quality", (quality, quality)
        yield "charts", (_text(macros.all_charts(runs, inner)), keys)
        values = _text(macros.values(*values_of(runs)))
        yield "values", (values, values)
        for name, html in inner.items():
            yield name, (html, html)

    def _parts_of(self, run: WatchedRun) -> tuple[object, dict[str, str]]:
        """The run's signature and its own parts, drawn anew where something changed."""
        signature, macros = run.signature, self._macros
        before = self._of_runs.get(run.key)
        if before is not None and before[0] == signature:
            return before
        parts = {
            f"grid-{run.key}": _text(macros.grid(run)),
            f"facts-{run.key}": _text(macros.facts(run, facts_of(run), STATES[run.state])),
            f"charts-{run.key}": _text(macros.charts(run, run_charts(run))),
        }
        return signature, parts


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("d3gan.watch"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    return environment


def asset(name: str) -> bytes | None:
    """A style sheet or script of the page; the report's are the page's too. None: the page has no such file."""
    if name not in (*_SHEETS, *_SCRIPTS):
        return None
    room = "d3gan.watch" if name.startswith("watch.") else "d3gan.report"
    return (importlib.resources.files(room) / "templates" / name).read_bytes()


def _text(html: Any) -> str:
    # A file's name may hold bytes that are no UTF-8; Python keeps them as halves of characters.
    return str(html).strip().encode("utf-8", "replace").decode()


def _counts(runs: Sequence[WatchedRun]) -> str:
    """The runs in words: ``3 runs: 2 training, 1 finished``."""
    if not runs:
        return "No run here yet"
    states = [run.state for run in runs]
    if len(runs) == 1:
        return f"One run: {states[0]}"
    return f"{len(runs)} runs: " + ", ".join(f"{states.count(each)} {each}" for each in STATES if each in states)


def _all_done(runs: Sequence[WatchedRun]) -> bool:
    return len(runs) > 1 and all(run.state == "finished" for run in runs)


def facts_of(run: WatchedRun) -> list[tuple[str, str]]:
    """Label and text of what a card says about a run."""
    line, last = run.metrics.last, run.last_step
    facts = [("step", f"{run.step:,} of {last:,}" if last else f"{run.step:,}")]
    if run.seconds_left is not None:
        facts.append(("training left", f"about {duration(run.seconds_left)}" if run.seconds_left else "nothing"))
    if run.config is not None:
        facts.append(("model, data", f"{run.config.model}, {run.config.dataset_name}"))
    for (rate,) in (numbers(line.get("images_per_second")),) if line else ():
        if not math.isnan(rate):
            facts.append(("images/s", f"{rate:,.0f}"))
    if points := column(run.evaluations, run.distance) if run.distance else []:
        step, best = min(points, key=lambda point: point[1])
        text = short(points[-1][1])
        text += f" at step {points[-1][0]:,}" if best == points[-1][1] else f"; best {short(best)} at step {step:,}"
        facts.append((metric_label(run.distance), text))
    return facts


def discriminators_of(run: WatchedRun) -> int:
    """How many discriminators its last line has."""
    weights = run.metrics.last.get("weights")
    return min(len(weights), MOST_CURVES) if isinstance(weights, list) else 0


def loss_columns(run: WatchedRun) -> list[tuple[str, list[tuple[int, float]]]]:
    """The generator's loss, and of each discriminator that on real images plus that on fake ones."""
    columns = [("G", column(run.metrics, "generator_loss"))]
    for k in range(discriminators_of(run)):
        fakes = dict(column(run.metrics, "fake_losses", k))
        reals = column(run.metrics, "real_losses", k)
        columns.append((f"D{k}", [(step, real + fakes[step]) for step, real in reals if step in fakes]))
    return columns


def run_charts(run: WatchedRun) -> list[Chart]:
    """The charts of one run: losses, and of several discriminators weights and agreement."""
    K = discriminators_of(run)
    charts = [chart_of("Losses", "Of each discriminator: on real images plus on fake ones.", loss_columns(run))]
    if K > 1:
        weights = [(f"D{k}", column(run.metrics, "weights", k)) for k in range(K)]
        note = "How much each discriminator counts for the generator."
        charts.append(chart_of("Weights", note, weights, (0.0, 1.0)))
        agreement = [("agreement", column(run.metrics, "agreement"))]
        note = "How far the discriminators judge fake images alike: 1, they are one; 0, they have nothing in common."
        charts.append(chart_of("Agreement", note, agreement, _agreement_limits(agreement[0][1])))
    return [chart for chart in charts if chart is not None]


def _agreement_limits(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    return (-1.0 if any(value < 0 for _, value in points) else 0.0, 1.0)


def quality_charts(runs: Sequence[WatchedRun]) -> list[Chart]:
    """For each metric by which runs are judged a chart with a line per run."""
    charts = []
    for name in dict.fromkeys(run.distance for run in runs if run.distance):
        lines = [(run.name, column(run.evaluations, name) if run.distance == name else []) for run in runs]
        charts.append(chart_of(metric_label(name), "Lower is better.", lines))
    return [chart for chart in charts if chart is not None]


def values_of(runs: Sequence[WatchedRun]) -> tuple[list[str], list[list[str]]]:
    """The table of the last values: its columns, and a row for each run."""
    distances = list(dict.fromkeys(run.distance for run in runs if run.distance))
    columns = ["run", "state", "step", "of", "training left", "images/s", *map(metric_label, distances)]
    columns += ["G loss", "D losses", "weights", "agreement"]
    rows = []
    for run in runs:
        line = run.metrics.last
        losses = [points[-1][1] if points else math.nan for _, points in loss_columns(run)]
        last, left = run.last_step, run.seconds_left
        row = [run.name, run.state, f"{run.step:,}", f"{last:,}" if last else "-"]
        row += ["-" if left is None else duration(left), _listed(numbers(line.get("images_per_second")))]
        row += [_listed(numbers(run.evaluations.last.get(name))) for name in distances]
        row += [_listed(losses[:1]), _listed(losses[1:])]
        row += [_listed(numbers(line.get("weights"))), _listed(numbers(line.get("agreement")))]
        rows.append(row)
    return columns, rows


def _listed(values: Sequence[float]) -> str:
    return ", ".join("-" if math.isnan(value) else short(value) for value in values) or "-"
