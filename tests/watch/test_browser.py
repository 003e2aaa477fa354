"""The live page as a browser shows it, while a run trains, is killed, and resumes: Debian's Chromium."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from d3gan.watch.server import PageServer
from tests.conftest import tiny_settings
from tests.report.synthetic import write_run


@pytest.fixture
def watch(chromium: Any) -> Iterator[Callable[[Path], Any]]:
    """Serves a folder's page and opens it; nothing may have been logged as an error when a test ends."""
    servers = []

    def open_page(path: Path) -> Any:
        server = PageServer(path)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        chromium.get(server.address)
        return chromium

    yield open_page
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    chromium.get("about:blank")
    for server in servers:
        server.shutdown()
        server.server_close()


def text(browser: Any, selector: str) -> str:
    script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent.trim()).join(' | ')"
    return str(browser.execute_script(script, selector))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def curve_length(browser: Any) -> int:
    """Points of the first line that is drawn."""
    script = "return (document.querySelector('.chart .curve')?.getAttribute('d') ?? '').split('L').length"
    return int(browser.execute_script(script))


def test_a_run_that_trains_is_killed_resumes_and_becomes_its_report(
    watch: Callable[[Path], Any], pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "mine"
    run.parent.mkdir()
    browser = watch(tmp_path)
    assert text(browser, "[data-part=status]") == "No run here yet."
    changes = dict(epochs=4000, sample_every=30, checkpoint=30, model="d3gan")
    words = [f"--{key.replace('_', '-')}={value}" for key, value in tiny_settings(pictures, run, **changes).items()]
    command = [sys.executable, "-m", "d3gan", "train", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: text(browser, ".state b") == "training", "the run that began does not show")
        wait_for(lambda: curve_length(browser) > 4, "no curve")
        before = curve_length(browser)
        wait_for(lambda: curve_length(browser) > before, "the curve does not grow")
        first = text(browser, ".grid output")
        wait_for(lambda: text(browser, ".grid output") != first, "no new sample grid shows")
        assert browser.execute_script("return document.querySelector('.grid img').complete")
        assert " of 44,000" in text(browser, ".card dd")
        assert "about " in text(browser, ".card dd")
        assert text(browser, ".drawing h3") == "Losses | Weights | Agreement"
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: text(browser, ".state b") == "stopped", "the kill is not noticed")
    step = int(text(browser, "tbody td:nth-child(3)").replace(",", ""))
    # A few steps more than there are: the end.
    done = subprocess.run([*command, f"--max-steps={step + 30}"], stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    wait_for(lambda: text(browser, ".state b") == "finished", "the end is not noticed")
    assert text(browser, "[data-part=status]") == "One run: finished."
    assert f"{step + 30:,} of {step + 30:,}" in text(browser, ".card dd")
    browser.find_element("css selector", ".state a").click()
    wait_for(lambda: "How good are the samples?" in text(browser, "h1"), "no report")
    assert text(browser, ".kind") == "d3gan report"


def test_the_slider_goes_back_through_time_and_follows_the_newest_at_its_end(
    watch: Callable[[Path], Any], tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    for model, grids in (("dcgan", 3), ("d3gan", 5)):
        write_run(tmp_path / model, model=model, grids=grids)
    browser = watch(tmp_path)
    outputs, slider = ".grid output", browser.find_element("id", "step")
    assert text(browser, outputs) == "1,200 | 1,200"
    slider.send_keys(Keys.HOME)
    assert text(browser, outputs) == "0 | 0"
    slider.send_keys(Keys.ARROW_RIGHT)
    assert text(browser, outputs) == "300 | 0"
    assert slider.get_attribute("aria-valuetext") == "step 300"
    shown = "return [...document.querySelectorAll('.grid img')].map((each) => each.src)"
    before = browser.execute_script(shown)

    def add_grid(step: int) -> None:
        samples = tmp_path / "d3gan" / "samples"
        shutil.copy(samples / "step-00000000.png", samples / f"step-{step:08d}.png")

    add_grid(1300)
    wait_for(lambda: slider.get_attribute("max") == "5", "the new grid is not there")
    assert text(browser, outputs) == "300 | 0", "the chosen step stays"
    assert browser.execute_script(shown) == before
    slider.send_keys(Keys.END)
    assert text(browser, outputs) == "1,300 | 1,200"
    add_grid(1400)
    wait_for(lambda: text(browser, outputs) == "1,400 | 1,200", "the newest grid does not show")
    assert browser.execute_script("return [...document.images].every((each) => each.naturalWidth > 0)")
    # A folder that goes takes its card and its curves along.
    shutil.rmtree(tmp_path / "dcgan")
    wait_for(lambda: text(browser, ".card h2") == "d3gan", "the removed run still shows")
    assert text(browser, ".curves h2") == "d3gan"
    shutil.rmtree(tmp_path / "d3gan")
    wait_for(lambda: "holds no run at the moment" in text(browser, ".cards"), "the removed run still shows")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_in_light_and_dark_and_on_a_phone(
    scheme: str, watch: Callable[[Path], Any], chromium: Any, tmp_path: Path
) -> None:
    from tests.report.test_browser import COLOURS

    for model in ("dcgan", "d3gan"):
        write_run(tmp_path / model, model=model, grids=2)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser = watch(tmp_path)
    selectors = ["h1, h2, h3, p, li, dt, dd, td, th, a, button, figcaption, output, b", ".chart text"]
    contrasts = browser.execute_script(COLOURS, selectors)
    assert len(contrasts) > 50
    assert [entry for entry in contrasts if entry[1] < 4.5] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    # Text of the charts is not smaller than 11 pixels, and the samples are on the first screen.
    script = (
        "return [...document.querySelectorAll('.chart')].map((each) => 12 * each.getBoundingClientRect().width / 360)"
    )
    assert min(browser.execute_script(script)) > 11
    script = "return document.querySelector('.grid img').getBoundingClientRect().bottom"
    assert browser.execute_script(script) < 800
    labels = "return [...document.querySelectorAll('.chart')].map((each) => [each.role, each.ariaLabel])"
    charts = browser.execute_script(labels)
    assert [role for role, _ in charts] == ["img"] * len(charts)
    assert all(" at step 1,200: " in label for _, label in charts)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
