"""axe-core, which looks for what keeps people with a disability from using a page; npm fetches it, once."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

VERSION = "4.14.1"
# By its rules as they come; "serious" and "critical" are axe-core's own words.
SCRIPT = """
const done = arguments[arguments.length - 1];
axe.run().then((result) => done(result.violations.map((each) =>
  [each.impact, each.id, each.nodes.map((node) => node.html.slice(0, 200)).slice(0, 5)])),
  (error) => done([["critical", String(error), []]]));
"""


def axe_core(cache: Path, folder: Path) -> str:
    """The program's text; skips the test where npm cannot fetch it.

    Args:
        cache: keeps it between runs of the tests.
        folder: empty, for npm.
    """
    file = cache / f"axe-{VERSION}.min.js"
    if not file.exists():
        if not shutil.which("npm"):
            pytest.skip("npm is not installed: apt-get install npm")
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
        try:
            subprocess.run([*command, f"axe-core@{VERSION}"], check=True, capture_output=True, text=True, timeout=60)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"npm cannot fetch axe-core: {getattr(error, 'stderr', '') or error}")
        # Whole or not at all: several processes may fetch it at once.
        shutil.copy(folder / "node_modules" / "axe-core" / "axe.min.js", folder / file.name)
        (folder / file.name).replace(file)
    return file.read_text(encoding="utf-8")


def faults(browser: Any, source: str) -> list[Any]:
    """The serious and critical faults of the page that a browser shows, with what they are of."""
    browser.execute_script(source)
    return [each for each in browser.execute_async_script(SCRIPT) if each[0] in ("serious", "critical")]
