"""The page to play with, as a browser computes it: Debian's Chromium, without a window."""

import base64
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from d3gan import TrainConfig, load_generator, sample, train
from d3gan.config.ini import load_config
from d3gan.errors import ExternalError
from d3gan.export.web_runtime import obtain_runtime
from d3gan.images import interpolate
from d3gan.randomness import draw_latents
from d3gan.runs.checkpoint import load_checkpoint
from d3gan.runs.directory import RunDirectory, checkpoint_path
from d3gan.runs.generator_file import read_facts, save_generator
from d3gan.sampling.generate import raw_sample
from d3gan.sampling.point_picture import GRID, half_side, plane
from d3gan.training.setup import build_gan
from tests.conftest import tiny_settings

pytest.importorskip("onnxscript")
pytestmark = pytest.mark.network
SEED = 3
KINDS: dict[str, dict[str, Any]] = {
    "images": dict(model="dcgan", nc=1),
    "classes": dict(model="dcgan", conditional=True),
    "points": dict(dataset="ring8", model="d3gan", batch_size=20, nz=2, ngf=8, ndf=4, max_steps=150, lr=0.003),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind."""
    folder = tmp_path_factory.mktemp("web")
    torch.set_num_threads(1)
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)):
        file = folder / "data" / ("cat", "<b>dog", "fish")[i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    settings = tiny_settings(folder / "data", folder, max_steps=2, data_dir=str(folder / "prepared"), checkpoint=150)
    runs = {}
    for kind, changes in KINDS.items():
        runs[kind] = train(TrainConfig(**settings | changes | {"out": str(folder / kind)})).run
        if kind != "points":  # after two steps all images are grey: larger weights make some
            generator, facts = load_generator(runs[kind]), read_facts(runs[kind])
            with torch.no_grad():
                for parameter in generator.parameters():
                    parameter.mul_(4)
            save_generator(generator, runs[kind] / "generator.safetensors", facts)
    return runs


def exported(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The pages of runs, made in one separate process: the exporter leaves warnings that would fail other tests."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all processes that test: one of them fetches
    try:
        obtain_runtime(data_dir=shared)
    except ExternalError as error:
        pytest.skip(str(error))
    words = ["--format=html", f"--seed={SEED}", f"--data-dir={shared}"]
    program = f"from d3gan.cli import main\nfor run in {[str(run) for run in runs]}:\n"
    program += f"    assert main(['export', run, *{words}]) == 0"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [run / "generator-export.html" for run in runs]


@pytest.fixture(scope="module")
def pages(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    images, points = exported([runs["images"], runs["points"]], tmp_path_factory)
    return {"images": images, "points": points}


@pytest.fixture
def show(chromium: Any, pages: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page anew and waits until it has computed; nothing may have been logged when a test ends."""

    def open_page(kind: str, width: int = 1200, scheme: str = "light") -> Any:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.get(pages[kind].as_uri())
        chromium.execute_async_script("d3gan.ready.then(arguments[0])")
        assert chromium.execute_script("return document.getElementById('status').textContent") == ""
        return chromium

    yield open_page
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def pixels_of(browser: Any, selector: str) -> npt.NDArray[np.uint8]:
    """What canvases show, (N, H, W, 3), once the page has computed everything."""
    browser.execute_async_script("d3gan.settled.then(arguments[0])")
    script = "return [...document.querySelectorAll(arguments[0])].map((canvas) => canvas.toDataURL('image/png'))"
    shown = [base64.b64decode(text.partition(",")[2]) for text in browser.execute_script(script, selector)]
    return np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in shown])


def as_shown(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    """What ``sample`` returns as a canvas has it: grey as three equal channels."""
    return images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()


def difference(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def numbers(browser: Any, script: str) -> npt.NDArray[np.float64]:
    return np.array(browser.execute_script(f"return [...{script}]"))


def test_the_browser_makes_the_images_that_python_makes(show: Callable[..., Any], runs: dict[str, Path]) -> None:
    browser = show("images")
    generator = load_generator(runs["images"])
    expected = as_shown(sample(generator, 64, SEED))
    assert expected.std() > 30, "or equal pixels say nothing"
    assert difference(pixels_of(browser, "#tiles canvas"), expected) <= 1
    # Nothing was asked for: a browser lists what it loads, and what it is refused, apart from the page itself.
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert [name for name in asked if not name.startswith(("blob:", "data:"))] == []
    # The way between two images, as `d3gan sample --interpolate` goes it.
    browser.execute_script("document.querySelectorAll('#tiles button')[5].click()")
    browser.execute_script("document.querySelectorAll('#tiles button')[9].click()")
    slide(browser, "#share", 0.25)
    latents = draw_latents(64, 6, SEED, "samples", device="cpu")
    way = interpolate(latents[5:6], latents[9:10], 5)[0]
    expected = as_shown(sample(generator, latents=way[1:2]))
    assert difference(pixels_of(browser, "#large"), expected) <= 1
    slide(browser, "[data-latent='2']", 1.5)
    way[1, 2] = 1.5
    assert difference(pixels_of(browser, "#large"), as_shown(sample(generator, latents=way[1:2]))) <= 1
    assert difference(as_shown(sample(generator, latents=way[1:2])), expected) > 1, "or that slider shows nothing"


def slide(browser: Any, selector: str, value: float) -> None:
    script = """const [selector, value] = arguments, slider = document.querySelector(selector);
      slider.value = value; slider.dispatchEvent(new Event("input"));"""
    browser.execute_script(script, selector, value)


@pytest.mark.slow
def test_the_browser_makes_each_class_as_python_does(
    show: Callable[..., Any],
    runs: dict[str, Path],
    pages: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    (pages["classes"],) = exported([runs["classes"]], tmp_path_factory)
    browser = show("classes")
    generator = load_generator(runs["classes"])
    labels = torch.arange(3).repeat_interleave(21)
    expected = as_shown(sample(generator, seed=SEED, labels=labels))
    assert difference(pixels_of(browser, "#tiles canvas"), expected) <= 1
    names = browser.execute_script("return [...document.querySelectorAll('#tiles span')].map((e) => e.textContent)")
    assert [name for name in names if name] == list(generator.class_names) == ["<b>dog", "cat", "fish"]
    choose = "const rows = document.getElementById('rows'); rows.value = 2; rows.dispatchEvent(new Event('change'))"
    browser.execute_script(choose)
    expected = as_shown(sample(generator, seed=SEED, labels=torch.full((64,), 2)))
    assert difference(pixels_of(browser, "#tiles canvas"), expected) <= 1


def test_the_browser_makes_points_and_asks_the_discriminators_as_python_does(
    show: Callable[..., Any], runs: dict[str, Path]
) -> None:
    browser, run = show("points"), RunDirectory(runs["points"])
    generator = load_generator(run.path)
    expected = raw_sample(generator, draw_latents(1000, 2, SEED, "samples", device="cpu")).double().numpy().ravel()
    points = numbers(browser, "d3gan.state.samples")
    np.testing.assert_allclose(points, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())

    gan = build_gan(load_config(run.config), torch.device("cpu"), "float32")
    gan.discriminators.load_state_dict(load_checkpoint(checkpoint_path(run.checkpoints, 150))["discriminators"])
    half = half_side(np.array([[1.0, 0.0]]))
    with torch.no_grad():
        logits = gan.discriminators.frozen_logits(torch.from_numpy(plane(half)))
    assert logits.shape == (2, GRID * GRID)
    np.testing.assert_allclose(numbers(browser, "d3gan.logits"), logits.double().numpy().ravel(), atol=1e-5)
    # The picture changes with what is switched off.
    pictures = {pixels_of_plot(browser)}
    for box in browser.find_elements("css selector", ".layers input"):
        box.click()
        pictures.add(pixels_of_plot(browser))
    assert len(pictures) == 4


def pixels_of_plot(browser: Any) -> str:
    return str(browser.execute_script("return document.getElementById('plot').toDataURL()"))


def test_the_page_is_used_by_keyboard_and_numbers_repeat(show: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = show("images")
    tiles = browser.find_elements("css selector", "#tiles button")
    tiles[0].send_keys(Keys.ARROW_DOWN)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element == tiles[9]
    tiles[9].send_keys(Keys.ENTER)
    tiles[9].send_keys(Keys.END)
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    marks = [tile.get_attribute("data-mark") or "" for tile in tiles]
    assert (marks[9], marks[63], sum(map(bool, marks))) == ("A", "B", 2)
    assert tiles[9].get_attribute("aria-label") == "image 10, chosen as A"
    first = pixels_of(browser, "#tiles canvas")
    browser.find_element("id", "new").send_keys(Keys.ENTER)
    second = pixels_of(browser, "#tiles canvas")
    assert difference(first, second) > 1
    assert "Draw 1 was made in the browser" in browser.find_element("id", "drawn").text
    latents = numbers(browser, "d3gan.state.latents")
    assert abs(latents.mean()) < 0.2
    assert abs(latents.std() - 1) < 0.2
    browser = show("images")
    assert difference(pixels_of(browser, "#tiles canvas"), first) == 0
    draw = browser.find_element("id", "draw")
    draw.send_keys(Keys.ARROW_UP)
    assert difference(pixels_of(browser, "#tiles canvas"), second) == 0
    # And an animation moves until it is paused.
    play = browser.find_element("id", "play")
    play.click()
    browser.execute_async_script("setTimeout(arguments[0], 500)")
    assert float(browser.find_element("id", "share").get_attribute("value")) > 0
    play.click()
    assert play.text == "Play"


@pytest.mark.slow
def test_it_fits_a_phone_light_and_dark_and_every_control_has_a_name(
    show: Callable[..., Any], pages: dict[str, Path]
) -> None:
    for kind in pages:
        for scheme in ("light", "dark"):
            browser = show(kind, 400, scheme)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
            ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (sum(int(part) for part in ground[4:-1].split(",")[:3]) > 384) == (scheme == "light")
        unnamed = """return [...document.querySelectorAll('input, select, button')].filter((each) =>
          !(each.labels?.length || each.textContent.trim() || each.ariaLabel)).map((each) => each.outerHTML)"""
        assert browser.execute_script(unnamed) == []
    assert max(page.stat().st_size for page in pages.values()) < 15_000_000
