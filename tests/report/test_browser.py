"""The page as a browser shows it: Debian's Chromium, without a window."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from d3gan.comparison.compare import compare_runs
from d3gan.report.embedded_images import read_animations
from d3gan.report.page import page_of
from tests.report.axe import axe_core, faults
from tests.report.synthetic import compared, write_animation, write_run

HOSTILE_FOLDER = "<img src=x onerror=alert(1)><script>alert(1)<"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    paths = [write_run(folder / f"{model}-s{seed}", model=model, seed=seed) for model in MODELS for seed in (0, 1)]
    paths.append(write_run(folder / HOSTILE_FOLDER, seed=2, grids=4))
    write_animation(folder / "moving.gif")
    (folder / "report.html").write_text(page_of(compared(paths), read_animations([folder])), encoding="utf-8")
    return folder / "report.html"


MODELS: tuple[Any, ...] = ("dcgan", "d3gan")
FOUR: tuple[Any, ...] = ("dcgan", "d3gan", "d3gan-controlled", "dcgan-controlled")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of four models and two seeds, with all that a comparison draws."""
    folder = tmp_path_factory.mktemp("demo")
    paths = [write_run(folder / f"{m}-s{seed}", model=m, seed=seed, grids=2) for seed in (0, 1) for m in FOUR]
    write_animation(folder / "moving.gif")
    page = page_of(compare_runs(paths), read_animations([folder]))
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder / "report.html"


@pytest.fixture
def show(chromium: Any, page: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page anew in a window of some width, in a scheme; no error may have been logged when a test ends."""

    def open_page(
        width: int = 1200,
        scheme: str = "light",
        motion: str = "no-preference",
        scripts: bool = True,
        of: Path = page,
        height: int = 900,
        hash: str = "",
    ) -> Any:
        features = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", motion)]
        media = {"features": [{"name": name, "value": value} for name, value in features]}
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        chromium.get("about:blank")  # else a page with another hash is not loaded anew
        chromium.get(of.as_uri() + hash)
        return chromium

    yield open_page
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def texts(browser: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent.trim())"
    return [str(text) for text in browser.execute_script(script, selector)]


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


OPEN_ALL = "for (const each of document.querySelectorAll('details')) each.open = true"


@pytest.mark.parametrize("width", [1280, 400])
def test_the_first_screen_has_the_verdict_and_the_samples(width: int, show: Callable[..., Any], demo: Path) -> None:
    browser = show(width, of=demo, height=800)
    lines = browser.find_elements("css selector", ".verdict li")
    assert [line.text.split(":")[0] for line in lines] == ["Undecided", "Undecided"]
    assert "d3gan-controlled" in lines[0].text, "the pair that answers the question comes first"
    rows = lines[0].size["height"] / float(lines[0].value_of_css_property("line-height")[:-2])
    assert rows < (1.5 if width > 400 else 4.5), "one short line"
    assert max(len(line.text) for line in lines) < 130
    first, *_ = grids = browser.find_elements("css selector", ".grid img")
    visible = 800 - first.rect["y"]
    assert visible > (200 if width > 400 else 80), f"only {visible} pixels of the samples"
    assert texts(browser, ".grid b")[:4] == ["dcgan", "dcgan-controlled", "d3gan", "d3gan-controlled"]
    # Then the final table, then two figures, and no more than a few screens altogether.
    order = [grids[0], *(find(browser, each) for each in ("#table-final", ".drawing", "#figures-title"))]
    tops = [each.rect["y"] for each in order]
    assert tops == sorted(tops)
    assert [each.is_displayed() for each in browser.find_elements("css selector", ".drawing")].count(True) == 2
    height = browser.execute_script("return document.documentElement.scrollHeight")
    assert height < (4000 if width > 400 else 5000)


def test_links_of_the_contents_open_what_is_folded(show: Callable[..., Any], demo: Path) -> None:
    browser = show(of=demo)
    links = browser.find_elements("css selector", "nav a")
    assert len(links) == 9
    for link in links:
        target = find(browser, link.get_attribute("href").partition("#")[2].join(("#", "")))
        link.click()
        assert target.is_displayed(), link.text
        assert browser.execute_script("return arguments[0].getBoundingClientRect().top", target) < 900, link.text
    for scripts in (True, False):
        browser = show(of=demo, scripts=scripts, hash="#tables")
        assert find(browser, "#table-behaviour").is_displayed()


def test_a_switch_changes_the_axis(show: Callable[..., Any], demo: Path) -> None:
    browser = show(of=demo)
    figure = find(browser, "figure[data-switch]")
    labels = [label.text for label in figure.find_elements("css selector", "label")]
    assert labels == ["iterations, images", "seconds", "FLOPs"]
    panels = figure.find_elements("css selector", ".panel")
    assert [panel.is_displayed() for panel in panels] == [True, False, False]
    assert not figure.find_elements("css selector", "details")
    figure.find_elements("css selector", "input")[1].click()
    assert [panel.is_displayed() for panel in panels] == [False, True, False]
    assert "seconds of training" in panels[1].text
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert [panel.is_displayed() for panel in panels] == [True, True, True]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser = show(of=demo, scripts=False)
    figure = find(browser, "figure[data-switch]")
    assert not figure.find_element("css selector", "fieldset").is_displayed()
    figure.find_element("css selector", "summary").click()
    assert all(panel.is_displayed() for panel in figure.find_elements("css selector", ".panel"))


def test_tables_fit_or_say_that_they_scroll(show: Callable[..., Any], demo: Path) -> None:
    look = """return [...document.querySelectorAll('.table')].map((each) => { const box = each.querySelector('.box');
      return [each.querySelector('caption').textContent, box.scrollWidth > box.clientWidth + 1,
        each.querySelector('.wide').checkVisibility()]; })"""
    browser = show(1280, of=demo)
    browser.execute_script(OPEN_ALL)
    wide = browser.execute_script(look)
    assert len(wide) == 6
    assert [name for name, is_wide, _ in wide if is_wide] == [], "all fit 1,280 pixels"
    browser = show(400, of=demo)
    browser.execute_script(OPEN_ALL)
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
    wide = browser.execute_script(look)
    assert any(is_wide for _, is_wide, _ in wide)
    assert all(is_wide == said for _, is_wide, said in wide)


def test_text_and_lines_of_figures_can_be_seen_on_a_phone_and_in_the_dark(
    show: Callable[..., Any], demo: Path, page: Path
) -> None:
    sizes = """return [...document.querySelectorAll('.panel:not([hidden]) text')].map((each) => {
      const { a, b } = each.getScreenCTM();
      return parseFloat(getComputedStyle(each).fontSize) * Math.hypot(a, b); })"""
    for each in (demo, page):  # whose figures are 5 and 7 inches wide
        browser = show(400, of=each)
        browser.execute_script(OPEN_ALL)
        assert min(browser.execute_script(sizes)) > 9.5
    lines = COLOURS.replace("style.fill : ", "style.stroke : ")
    curve = ".panel path[style*='stroke-width: 1.7']"
    for scheme, least in (("dark", 4.5), ("light", 2.0)):  # orange on white has 2.2, and markers besides
        browser = show(1280, scheme, of=demo)
        contrasts = browser.execute_script(lines, [curve])
        assert len(contrasts) >= 4
        assert min(contrast for _, contrast in contrasts) > least


@pytest.mark.network
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (400, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(400, "light", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_no_serious_fault(
    scheme: str,
    width: int,
    show: Callable[..., Any],
    demo: Path,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    source = axe_core(pytestconfig.cache.mkdir("axe-core"), tmp_path)
    browser = show(width, scheme, of=demo, height=800)
    browser.execute_script(OPEN_ALL)
    assert faults(browser, source) == []


def test_no_error_is_logged_and_nothing_is_asked_for(show: Callable[..., Any]) -> None:
    browser = show()
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert [name for name in asked if not name.startswith("data:")] == []
    assert browser.execute_script("return document.compatMode") == "CSS1Compat"
    assert browser.execute_script("return [...document.images].every((each) => each.naturalWidth > 0)")


def test_the_run_called_script_stays_text(show: Callable[..., Any]) -> None:
    browser = show()
    assert texts(browser, "#table-runs td:first-child")[-1] == HOSTILE_FOLDER
    assert len(browser.find_elements("css selector", "script")) == 3
    assert HOSTILE_FOLDER in texts(browser, ".drawing text")
    from selenium.webdriver.support.expected_conditions import alert_is_present

    assert not alert_is_present()(browser)


def test_the_slider_moves_all_grids_of_its_group(show: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = show()
    slider = find(browser, "input[type=range]")
    images = "return [...document.querySelectorAll('.grid img')].map((each) => each.src)"
    last = browser.execute_script(images)
    assert texts(browser, ".grid output") == ["1,200"] * 5
    slider.send_keys(Keys.HOME)
    first = browser.execute_script(images)
    assert texts(browser, ".grid output") == ["0"] * 5
    assert all(a != b for a, b in zip(first, last, strict=True))
    assert len(set(first)) == 5
    slider.send_keys(Keys.ARROW_RIGHT)
    # The run of four grids has none between 0 and 400.
    assert texts(browser, ".grid output") == ["200"] * 4 + ["0"]
    assert texts(browser, ".slider output") == ["200"]
    assert slider.get_attribute("aria-valuetext") == "step 200"
    assert find(browser, ".grid img").get_attribute("alt").endswith("after step 200")
    slider.send_keys(Keys.END)
    assert browser.execute_script(images) == last
    assert browser.execute_script("return [...document.images].every((each) => each.naturalWidth > 0)")


def test_tables_sort_by_value_by_mouse_and_by_keyboard(show: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = show()
    column = "#table-final tbody td:nth-child(3)"
    before = texts(browser, column)
    assert before == ["9", "709", "9", "709", "1,409"]
    header = find(browser, "#table-final th:nth-child(3)")
    header.find_element("css selector", "button").click()
    assert texts(browser, column) == ["9", "9", "709", "709", "1,409"]
    assert header.get_attribute("aria-sort") == "ascending"
    header.find_element("css selector", "button").send_keys(Keys.ENTER)
    assert texts(browser, column) == ["1,409", "709", "709", "9", "9"]
    assert header.get_attribute("aria-sort") == "descending"
    find(browser, "#table-final th:nth-child(1) button").send_keys(Keys.SPACE)
    names = texts(browser, "#table-final tbody td:nth-child(1)")
    assert names[1:] == ["d3gan-s0", "d3gan-s1", "dcgan-s0", "dcgan-s1"]
    assert header.get_attribute("aria-sort") is None


COLOURS = """
const seen = (colour) => { const c = document.createElement("canvas").getContext("2d");
  c.fillStyle = colour; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3); };
const light = (colour) => { const [r, g, b] = seen(colour).map((v) => (v /= 255) <= 0.04045 ? v / 12.92
  : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (each) => { for (; each; each = each.parentElement) {
  const colour = getComputedStyle(each).backgroundColor; if (colour !== "rgba(0, 0, 0, 0)") return colour; } };
return arguments[0].flatMap((selector) => [...document.querySelectorAll(selector)]).map((each) => {
  const style = getComputedStyle(each), drawn = each instanceof SVGElement;
  const [a, b] = [light(drawn ? style.fill : style.color), light(ground(each))];
  return [each.outerHTML.slice(0, 80), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; });
"""


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_in_light_and_dark_and_on_a_phone(
    scheme: str, width: int, show: Callable[..., Any]
) -> None:
    browser = show(width, scheme)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")[:3]) > 384) == (scheme == "light")
    selectors = [
        "h1, h2, h3, h4, p, li, dt, dd, td, th, a, button, summary, figcaption, pre, output",
        ".drawing text",
    ]
    browser.execute_script(OPEN_ALL)
    contrasts = browser.execute_script(COLOURS, selectors)
    assert len(contrasts) > 100
    assert [entry for entry in contrasts if entry[1] < 4.5] == []
    # WCAG's AA: 4.5 for text. And nothing but what has a box of its own is wider than the window.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for svg in browser.find_elements("css selector", ".drawing svg"):
        assert svg.is_displayed()
        assert svg.size["width"] > 300
        assert svg.size["height"] > 150


def test_the_button_changes_the_scheme_and_it_is_kept(show: Callable[..., Any]) -> None:
    browser = show(scheme="light")
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(ground)
    find(browser, "#theme").click()
    dark = browser.execute_script(ground)
    assert dark != light
    browser.refresh()
    assert browser.execute_script(ground) == dark
    find(browser, "#theme").click()
    assert browser.execute_script(ground) == light
    browser.execute_script("localStorage.clear()")


def test_without_scripts_the_last_grids_and_all_figures_are_there(show: Callable[..., Any]) -> None:
    browser = show(scripts=False)
    assert not find(browser, "#theme").is_displayed()
    assert not find(browser, "input[type=range]").is_displayed()
    assert [each.is_displayed() for each in browser.find_elements("css selector", ".drawing svg")] == [
        True,
        True,
        False,
    ]
    browser.find_element("css selector", "#figures-title").click()
    assert all(each.is_displayed() for each in browser.find_elements("css selector", ".drawing svg"))
    assert find(browser, ".grid img").is_displayed()
    assert "step 1,200" in find(browser, ".grid figcaption").text


def test_animations_move_only_where_that_is_welcome(show: Callable[..., Any]) -> None:
    shown = "return document.querySelector('.animation img').currentSrc.slice(0, 15)"
    browser = show(hash="#animations")
    assert browser.execute_script(shown) == "data:image/gif;"
    button = find(browser, ".animation button")
    assert button.text == "Pause"
    button.click()
    assert (browser.execute_script(shown), button.text) == ("data:image/webp", "Play")
    browser = show(motion="reduce", hash="#animations")
    assert browser.execute_script(shown) == "data:image/webp"
    button = find(browser, ".animation button")
    assert button.text == "Play"
    button.click()
    assert browser.execute_script(shown) == "data:image/gif;"
    assert browser.execute_script(shown) == "data:image/gif;"


def test_what_is_folded_is_printed(show: Callable[..., Any]) -> None:
    browser = show(scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    heights = "return [...document.querySelectorAll('details')].map((each) => each.getBoundingClientRect().height)"
    assert min(browser.execute_script(heights)) > 40  # of a summary alone: 36 at most
    assert not find(browser, "#theme").is_displayed()
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


def test_figures_and_numbers_can_be_taken_away(show: Callable[..., Any], chromium: Any) -> None:
    import json
    import time
    from xml.etree import ElementTree

    browser = show()
    find(browser, "button.svg").click()
    find(browser, "#numbers").click()
    files = [chromium.downloads / name for name in ("fid-by-iteration-mnist-b64.svg", "comparison.json")]
    for _ in range(100):
        if all(file.exists() for file in files):
            break
        time.sleep(0.05)
    svg = ElementTree.fromstring(files[0].read_text(encoding="utf-8"))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.attrib["width"].endswith("pt")
    assert "var(" not in files[0].read_text(encoding="utf-8")
    assert HOSTILE_FOLDER in json.loads(files[1].read_text(encoding="utf-8"))["runs"][-1]
