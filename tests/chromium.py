"""The browser of the tests that look at a page: Debian's Chromium, without a window."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "headless=new",
    "no-sandbox",  # it does not start as root, nor in most containers; the pages are our own
    "disable-gpu",
    "disable-dev-shm-usage",
    "no-first-run",
    # It would look things up for itself.
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "disable-quic",
)


@contextmanager
def open_chromium(profile: Path, *flags: str) -> Iterator[Any]:
    """A browser that logs everything, whose profile and downloads go to a folder; skips the test where there is none.

    Args:
        profile: an empty folder.
        flags: more of Chromium's, without ``--``.
    """
    pytest.importorskip("selenium", reason="selenium is not installed: pip install 'd3gan[test]'")
    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (program and driver):
        pytest.skip("chromium or chromedriver is not installed: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in (*FLAGS, f"user-data-dir={profile}", *flags):
        options.add_argument(f"--{word}")
    downloads = {"download.default_directory": str(profile), "download.prompt_for_download": False}
    options.add_experimental_option("prefs", downloads)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_script_timeout(100)
    browser.downloads = profile  # type: ignore[attr-defined]
    yield browser
    browser.quit()
