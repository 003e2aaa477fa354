"""The demo's preset on real MNIST, cut short: it runs, and in the memory that the README promises."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from d3gan.cli import main
from d3gan.data.published.commands import fetch
from d3gan.errors import ExternalError

ROOT = Path(__file__).parents[1]


@pytest.mark.network
def test_the_demo_starts_and_stays_under_1_and_a_half_gb(pictures: Path, tmp_path: Path) -> None:
    """Its largest model, training and evaluation; against few real images, since more take time and not memory."""
    try:
        fetch("mnist")
    except ExternalError as error:
        pytest.skip(f"MNIST cannot be had here: {error}")
    words = ["train", "--preset=mnist-demo", "--model=d3gan", "--max-steps=60", f"--out={tmp_path / 'run'}"]
    words += [f"--reference={pictures}", "--num-samples=300"]
    # In a separate process: this one has run other tests, and a process keeps its memory.
    subprocess.run([sys.executable, "-m", "d3gan", *words], check=True, stdout=subprocess.DEVNULL)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 60
    assert line["peak_memory_bytes"] < 1.5e9
    # Sixty steps suffice to tell real digits from the first fakes.
    assert max(line["real_losses"] + line["fake_losses"]) < 0.6


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_plain_make_lists_every_target_and_starts_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(["make"], cwd=tmp_path, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("make ")]
    targets = (tmp_path / "Makefile").read_text().split(".PHONY: ")[2].split("\n")[0].split()
    assert sorted(listed) == sorted(targets)
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


def test_the_demo_asks_for_four_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the Makefile, as far as the training."""
    makefile = (ROOT / "Makefile").read_text()
    command = makefile[makefile.index("d3gan compare") :].split("\n\n")[0].replace("\\\n", " ").split()
    words = command[1:]
    words[words.index("--out") + 1] = str(tmp_path / "demo")
    assert main([*words, "--dry-run"]) == 0
    models = ("dcgan", "d3gan", "d3gan-controlled", "dcgan-controlled")
    assert capsys.readouterr().out.splitlines() == [f"mnist-{model}-b32-s0: to be trained" for model in models]
