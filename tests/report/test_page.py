"""The page as text: what it holds, what it must not hold, and how large it gets."""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from d3gan.comparison.results import Cell, Comparison, Drawing, Table, VerdictLine
from d3gan.report import page as report_page
from d3gan.report import sample_viewer
from d3gan.report.embedded_images import read_animations
from d3gan.report.page import page_of
from d3gan.report.reproduce import words_of
from tests.report.synthetic import FID, compared, read_run, write_animation, write_run

HOSTILE = "<script>alert(1)</script>"
# A folder's name holds no slash.
HOSTILE_FOLDER = "\"'><img src=x onerror=alert(1)><script>alert(1)<{{ 7 * 7 }}"


class Parsed(HTMLParser):
    """The elements of a page, as a browser would read them."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.elements.append((tag, found))
        self._inside = tag
        if tag == "script":
            self.scripts.append((found, ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self._inside != "style":
            self.text += data

    def values(self, *names: str) -> list[str]:
        return [found[name] for _, found in self.elements for name in names if name in found]

    def block(self, name: str) -> Any:
        return next(json.loads(text) for found, text in self.scripts if found.get("id") == name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("runs")
    models: tuple[Any, ...] = ("dcgan", "d3gan")
    return [write_run(place / f"{model}-s{seed}", model=model, seed=seed) for model in models for seed in (0, 1)]


@pytest.fixture(scope="module")
def comparison(folders: list[Path]) -> Comparison:
    return compared(folders)


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return page_of(comparison)


def test_it_says_what_was_found_and_what_was_run(page: str, comparison: Comparison) -> None:
    text = " ".join(Parsed(page).text.split())
    assert comparison.verdict in text
    assert "Three seeds only." in text
    for run in comparison.runs:
        assert run.name in text
        assert " ".join(words_of(run)) in text
        assert f"{run.evaluations[-1][FID]:.2f}" in text
    assert "2.13.0+cpu" in text
    assert "FID (efficientnet-lite0, train)" in text


def test_lines_stand_for_the_verdict_and_the_rest_is_folded(comparison: Comparison) -> None:
    lines = [VerdictLine(f"Pays {i}", f"sentence {i}") for i in range(report_page.MOST_LINES + 2)]
    text = " ".join(Parsed(page_of(dataclasses.replace(comparison, lines=lines))).text.split())
    places = [text.index(words) for words in ("Pays 0: sentence 0", "Pays 1:", "2 more pairs", "Pays 2:", "Samples")]
    assert places == sorted(places)
    assert text.count(comparison.verdict) == 1
    assert text.index(comparison.verdict) > text.index("More figures")


def test_what_all_rows_share_is_no_column(comparison: Comparison) -> None:
    columns = ["data set", "variant", "FID"]
    rows = [[Cell("mnist"), Cell(name), Cell(f"{fid} (1 to 9)", fid)] for name, fid in (("a", 2.0), ("b", 3.0))]
    table = Table("final", "Final metrics", "At the last evaluation.", columns, rows)
    page = page_of(dataclasses.replace(comparison, tables=[table]))
    table_text = page[page.index('id="table-final"') : page.index("</table>")]
    assert re.findall(r"<th [^>]*>([^<]*)</th>", table_text) == ["variant", "FID"]
    assert "2.0 <span>(1 to 9)</span>" in table_text, "an interval may stand below its mean"
    assert "In all rows: data set mnist. At the last evaluation." in Parsed(page).text
    one = page_of(dataclasses.replace(comparison, tables=[table._replace(rows=rows[:1])]))
    assert ">data set</th>" in one


def test_nothing_is_fetched(page: str) -> None:
    parsed = Parsed(page)
    addresses = parsed.values("src", "href", "srcset", "xlink:href", "action", "data", "poster")
    assert addresses
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", page)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in parsed.elements}
    (policy,) = (found["content"] for _, found in parsed.elements if "http-equiv" in found)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    (script,) = (text for found, text in parsed.scripts if "type" not in found)
    assert rules["script-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def test_ids_are_unique_and_what_refers_to_them_finds_them(page: str) -> None:
    parsed = Parsed(page)
    ids = Counter(parsed.values("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    named = " ".join(parsed.values("aria-labelledby", "for")).split()
    linked = [address[1:] for address in parsed.values("href") if address.startswith("#")]
    assert {*named, *linked, *re.findall(r"url\(#([^)]*)\)", page)} <= set(ids)
    assert sum(name.startswith("figure-3-") for name in ids) > 2


def test_headings_are_in_order_and_images_have_words(page: str) -> None:
    parsed = Parsed(page)
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(later <= level + 1 for level, later in itertools.pairwise(levels))
    assert all(found["alt"] for tag, found in parsed.elements if tag == "img")


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Comparison, Comparison]:
    """The same comparison with harmless and with hostile texts wherever a run can have some."""
    harmless = "h" * len(HOSTILE_FOLDER)
    write_run(tmp_path / harmless, grids=3)
    shutil.copytree(tmp_path / harmless, tmp_path / HOSTILE_FOLDER)
    made = []
    for folder, text in ((harmless, harmless[: len(HOSTILE)]), (HOSTILE_FOLDER, HOSTILE)):
        run = read_run(tmp_path / folder)
        session = dict.fromkeys(run.sessions[0], text) | {"command": [text], "data": {"name": text, "images": text}}
        config = dataclasses.replace(run.config, dataset=f"/{text}", reference=text)
        run = dataclasses.replace(run, config=config, variant=text, dataset=text, sessions=[session])
        evaluation = {name: value for name, value in run.evaluations[-1].items() if name != FID}
        run = dataclasses.replace(run, evaluations=[evaluation | {f"fid_{text}_train": 3.0}])

        def draw(name: str = run.name) -> Figure:
            figure = Figure()
            axes = figure.subplots()
            axes.plot([0, 1], label=name)
            axes.set_title(f"{name} --> ]]> \x01", parse_math=False)
            axes.legend()
            return figure

        drawing = Drawing(text, text, text, draw)
        table = Table(text, text, text, [text, text], [[Cell(text), Cell(text, 1.0)]])
        made.append(Comparison([run], text, [drawing], [table], {text: text, "nan": float("nan")}, [text]))
    return made[0], made[1]


def test_a_runs_text_is_never_markup(twins: tuple[Comparison, Comparison]) -> None:
    harmless, hostile = (Parsed(page_of(comparison)) for comparison in twins)
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    assert [list(found) for _, found in hostile.elements] == [list(found) for _, found in harmless.elements]
    # As text it is there: in the page, in the legend of the figure, in the numbers.
    assert hostile.text.count(HOSTILE) > 20
    assert hostile.text.count(HOSTILE_FOLDER) >= 3
    assert hostile.block("comparison") == {HOSTILE: HOSTILE, "nan": None}
    assert "{{ 7 * 7 }}" in hostile.text


def test_names_that_are_no_text_do_no_harm(tmp_path: Path, folders: list[Path]) -> None:
    name = b"caf\xe9 \xe2\x80\xae\x07\xef\xbf\xbf".decode("utf-8", "surrogateescape")
    try:
        shutil.copytree(folders[0], tmp_path / name)
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")
    page_of(compared([tmp_path / name])).encode()


def test_figures_follow_the_pages_colours(page: str) -> None:
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert "currentColor" in svg
    assert not re.search(r"#000000|#e4e4e4|<style|<metadata|#ffffff(?!\))", svg)
    assert "stroke: #D55E00".lower() in svg.lower()
    assert re.search(r"stroke: currentColor[^\"]*stroke-opacity: 0\.1", svg)
    assert re.search(r'<svg viewBox="[^"]+"', svg)
    assert "width=" not in svg.split(">")[0]


def test_one_run_alone(folders: list[Path]) -> None:
    parsed = Parsed(page_of(compared(folders[:1])))
    assert "What differs" not in parsed.text
    assert sum("data-frames" in found for _, found in parsed.elements) == 1


def test_a_run_of_which_nothing_is_known(folders: list[Path]) -> None:
    run = dataclasses.replace(read_run(folders[0]), sessions=[], metrics=[], evaluations=[], sample_grids=[])
    parsed = Parsed(page_of(Comparison([run], "Nothing can be said yet.", [], [], {})))
    assert "Nothing can be said yet." in parsed.text
    assert "Samples" not in parsed.text
    assert "NaN" not in parsed.text


def frames_of(page: str) -> dict[str, list[int]]:
    grids = [found for _, found in Parsed(page).elements if "data-frames" in found]
    return {found["data-who"]: [step for step, _ in json.loads(found["data-frames"])] for found in grids}


def test_each_grid_can_be_reached_and_stands_in_the_page_once(page: str, comparison: Comparison) -> None:
    parsed, steps = Parsed(page), [0, 200, 400, 600, 800, 1000, 1200]
    assert list(frames_of(page)) == ["dcgan, seed 0", "d3gan, seed 0", "dcgan, seed 1", "d3gan, seed 1"]
    assert all(found == steps for found in frames_of(page).values())
    shown = {found["data-key"]: found["src"] for _, found in parsed.elements if "data-key" in found}
    frames = parsed.block("frames") | shown
    keys = {str(key) for found in parsed.values("data-frames") for _, key in json.loads(found)}
    assert keys == set(frames)
    assert len(set(frames.values())) == len(frames)
    assert page.count("data:image/") == len(frames)


def test_equal_grids_are_embedded_once(tmp_path: Path, folders: list[Path]) -> None:
    shutil.copytree(folders[0], tmp_path / "again")
    before, after = (Parsed(page_of(compared(paths))) for paths in (folders[:1], [folders[0], tmp_path / "again"]))
    assert len(after.block("frames")) == len(before.block("frames"))


def warnings_of(page: str) -> list[str]:
    return re.findall(r"<li>This page ([^<]*)</li>", page)


def test_a_page_that_leaves_nothing_out_has_no_warning(
    comparison: Comparison, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(page_of(comparison)) == []
    assert caplog.messages == []


def test_a_run_of_many_grids_shows_some_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [write_run(tmp_path / "many", grids=61, side=4), write_run(tmp_path / "few", grids=3, side=4, seed=1)]
    found = page_of(compared(paths))
    steps = frames_of(found)
    assert steps["d3gan, seed 1"] == [0, 600, 1200]
    assert len(steps["d3gan, seed 0"]) == sample_viewer.FRAMES
    assert (steps["d3gan, seed 0"][0], steps["d3gan, seed 0"][-1]) == (0, 1200)
    gaps = {after - before for before, after in itertools.pairwise(steps["d3gan, seed 0"])}
    assert gaps <= {40, 60}  # evenly spread: every second or third grid
    assert warnings_of(found) == [f"shows {sample_viewer.FRAMES} of up to 61 sample grids per run."]
    assert caplog.messages == [f"This page {warnings_of(found)[0]}"]


def test_of_many_seeds_some_show_grids_and_the_page_says_so(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"s{seed}", grids=2, side=4, seed=seed) for seed in range(sample_viewer.SEEDS + 2)]
    found = page_of(compared(paths[::-1]))
    assert list(frames_of(found)) == [f"d3gan, seed {seed}" for seed in range(sample_viewer.SEEDS)]
    (warning,) = warnings_of(found)
    assert warning == f"shows the sample grids of {sample_viewer.SEEDS} of up to {len(paths)} seeds."


def test_usual_runs_in_color_take_less_than_the_limit(tmp_path: Path) -> None:
    models: tuple[Any, ...] = ("dcgan", "d3gan")
    paths = [
        write_run(tmp_path / f"{model}-s{seed}", model=model, seed=seed, grids=30, dataset="cifar10", nc=3)
        for model in models
        for seed in range(2)
    ]
    found = page_of(compared(paths))
    assert len(found.encode()) < report_page.LARGEST_PAGE
    assert "takes" not in warnings_of(found)[0]


def test_a_page_above_the_limit_says_so(
    comparison: Comparison, page: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(report_page, "LARGEST_PAGE", 100_000)
    found = page_of(comparison)
    size = f"{len(page.encode()) / 1e6:.1f} MB"
    assert warnings_of(found) == [f"takes {size} (pages above 0.1 MB are hard to share; give fewer runs)."]
    assert caplog.messages == [f"This page {warnings_of(found)[0]}"]
    assert frames_of(found) == frames_of(page)


def test_a_damaged_grid_is_left_out_and_named(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "torn", grids=4))
    run.sample_grids[1][1].write_bytes(run.sample_grids[1][1].read_bytes()[:300])
    found = page_of(compared([run.path]))
    assert frames_of(found) == {"d3gan, seed 0": [0, 800, 1200]}
    assert "torn: sample grids that cannot be read are left out: step-00000400.png." in Parsed(found).text


def test_animations_stand_still_for_those_who_ask_for_it(tmp_path: Path, comparison: Comparison) -> None:
    for name in ("a.gif", "b.webp"):
        write_animation(tmp_path / name)
    (tmp_path / "torn.gif").write_bytes(b"GIF89a")
    animations = read_animations([tmp_path])
    assert [animation.name for animation in animations] == ["a", "b"]
    parsed = Parsed(page_of(comparison, animations))
    assert [found["src"][:15] for tag, found in parsed.elements if "Animation" in found.get("alt", "")] == [
        "data:image/gif;",
        "data:image/webp",
    ]
    stills = [found for tag, found in parsed.elements if tag == "source"]
    assert all("prefers-reduced-motion: reduce" in found["media"] for found in stills)
    assert {found["srcset"] for found in stills} == {animation.still for animation in animations}


def test_large_animations_are_left_out_and_named(tmp_path: Path, comparison: Comparison) -> None:
    write_animation(tmp_path / "small.webp")
    shutil.copy(tmp_path / "small.webp", tmp_path / "large.webp")
    with (tmp_path / "large.webp").open("ab") as file:
        file.write(np.random.default_rng(0).bytes(report_page.LARGEST_ANIMATION * 3 // 4))
    found = page_of(comparison, read_animations([tmp_path]))
    assert "small" in Parsed(found).values("alt")[-1]
    assert warnings_of(found) == ["leaves out animations of more than 4 MB (large)."]
    assert all(len(steps) > 3 for steps in frames_of(found).values())
