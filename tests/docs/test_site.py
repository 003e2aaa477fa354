"""The documentation site: its pages name the public interface, link to what exists, and open in a browser."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import d3gan
from tests.chromium import open_chromium

ROOT = Path(__file__).parents[2]


def test_the_api_page_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api" / "README.md").read_text()
    shown = set(re.findall(r"^::: d3gan\.(\w+)$", page, re.MULTILINE))
    assert shown == set(d3gan.__all__) - {"__version__"}
    assert "`d3gan.__version__`" in page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'd3gan[docs]'")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={folder}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Links(HTMLParser):
    """The targets of a page's links, images and scripts, and the ids that others can link to."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.images_without_text = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for value in (values.get("id"), values.get("name")) if value}
        if target := values.get("href") or values.get("src"):
            self.targets.append(target)
        self.images_without_text += tag == "img" and not values.get("alt")


@pytest.mark.slow
def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {path: Links(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 40
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            if re.match(r"(https?|data|mailto):", target) or path.name == "404.html":
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / unquote(name)).resolve() if name else path
            if not file.is_file() or (anchor and file in pages and unquote(anchor) not in pages[file].ids):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert broken == []
    assert [str(path) for path, page in pages.items() if page.images_without_text] == []
    for path in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\">]*", path.read_text()
        )
        assert loaded == [], path


@pytest.mark.slow
def test_the_api_page_shows_what_the_docstrings_say(site: Path) -> None:
    page = Links((site / "api" / "index.html").read_text())
    assert {f"d3gan.{name}" for name in d3gan.__all__} - {"d3gan.__version__"} <= page.ids
    assert "d3gan.TrainConfig.softmax_lambda" in page.ids


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # Whatever a page asked of another host fails, and is logged.
    with open_chromium(tmp_path_factory.mktemp("profile"), "host-resolver-rules=MAP * ~NOTFOUND") as opened:
        yield opened


def show(browser: Any, width: int, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("width", [1280, 400])
def test_every_page_opens_without_an_error_wide_and_narrow_light_and_dark(
    site: Path, browser: Any, width: int
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def is_light(opened: Any) -> bool:
        ground = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", ground)[:3])) > 384

    def is_dark(opened: Any) -> bool:
        return not is_light(opened)

    # A server shows 404.html; its addresses are absolute.
    for path in sorted(path for path in site.rglob("*.html") if path.name != "404.html"):
        name = str(path.relative_to(site))
        show(browser, width, "light")
        browser.get(path.as_uri())
        for scheme, expected in (("light", is_light), ("dark", is_dark)):
            show(browser, width, scheme)
            WebDriverWait(browser, 20).until(expected, f"{name} is not {scheme}")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        unloaded = "return [...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)"
        assert browser.execute_script(unloaded) == [], name
        logged = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        assert logged == [], name


@pytest.mark.slow
def test_search_works_on_files(site: Path, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    show(browser, 1280, "light")
    browser.get((site / "index.html").as_uri())
    field = browser.find_element("css selector", ".md-search__input")
    browser.execute_script("document.querySelector('#__search').click()")
    field.send_keys("hypervolume")
    results = ".md-search-result__link"
    WebDriverWait(browser, 20).until(lambda each: each.find_elements("css selector", results))
    hrefs = [each.get_attribute("href") for each in browser.find_elements("css selector", results)]
    assert any("algorithm.html" in href for href in hrefs)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
