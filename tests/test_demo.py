"""The demo's preset on real MNIST, cut short: it runs, and in the memory that the README promises."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest

from d3gan import train
from d3gan.cli import main
from d3gan.config import load_config
from d3gan.data import fetch
from d3gan.errors import WorldError

PRESET = Path(__file__).parents[1] / "presets" / "mnist-demo.ini"


@pytest.mark.network
@pytest.mark.parametrize("model", ["d3gan", "dcgan"])
def test_the_demo_starts_and_stays_under_1_and_a_half_gb(model: Literal["d3gan", "dcgan"], tmp_path: Path) -> None:
    try:
        fetch("mnist")
    except WorldError as error:
        pytest.skip(f"MNIST cannot be had here: {error}")
    config = dataclasses.replace(load_config(PRESET), model=model, max_steps=60, out=str(tmp_path / "run"))
    outcome = train(config)
    line = json.loads((outcome.run / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 60
    assert line["peak_memory_bytes"] < 1.5e9
    # Sixty steps suffice to tell real digits from the first fakes.
    assert max(line["real_errors"] + line["fake_errors"]) < 0.6


def test_the_demo_asks_for_four_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the Makefile, as far as the training."""
    makefile = (PRESET.parents[1] / "Makefile").read_text()
    command = makefile[makefile.index("d3gan compare") :].split("\n\n")[0].replace("\\\n", " ").split()
    words = [word.replace("presets/mnist-demo.ini", str(PRESET)) for word in command[1:]]
    words[words.index("--out") + 1] = str(tmp_path / "demo")
    assert main([*words, "--dry-run"]) == 0
    models = ("dcgan", "d3gan", "dcgan-controlled", "d3gan-controlled")
    assert capsys.readouterr().out.splitlines() == [f"mnist-{model}-b64-s0: to be trained" for model in models]
