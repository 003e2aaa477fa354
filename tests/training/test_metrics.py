import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from d3gan import TrainConfig
from d3gan.errors import ExternalError, TrainingDivergedError
from d3gan.memory import peak_memory
from d3gan.training.metrics import MetricsLog
from d3gan.training.setup import build_gan
from d3gan.training.step import StepResult
from d3gan.training.stopwatch import Stopwatch

CPU = torch.device("cpu")
EVEN = [0.5, 0.5]


def result(
    generator: float, real: list[float], fake: list[float], weights: list[float], penalties: list[float] | None = None
) -> StepResult:
    real_losses, fake_losses = torch.tensor(real), torch.tensor(fake)
    terms = None if penalties is None else torch.tensor(penalties)
    return StepResult(torch.tensor(generator), real_losses, fake_losses, real_losses, torch.tensor(weights), terms)


def log_of(path: Path, **changes: Any) -> MetricsLog:
    """Of an epoch of 4 steps, each of 10 images."""
    config = TrainConfig(**{"image_size": 16, "ngf": 2, "ndf": 2, **changes})
    images_per_step = 10 * config.d_steps
    return MetricsLog(path, build_gan(config, CPU, "float32"), images_per_step, 10, 4, CPU)


def test_a_tick_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    metrics_log = log_of(tmp_path / "m.jsonl")
    metrics_log.stopwatch.restart()
    metrics_log.record(result(1.0, [1.0, 2.0], [5.0, 6.0], [1.0, 0.0]))
    metrics_log.record(result(3.0, [3.0, 4.0], [7.0, 9.0], [0.0, 1.0]))
    metrics_log.record(result(5.0, [5.0, 9.0], [9.0, 0.0], [0.5, 0.0]))
    line = metrics_log.log(3, 0.01, 0.02)
    assert line == json.loads((tmp_path / "m.jsonl").read_text())
    assert (line["step"], line["images_seen"], line["epoch"], line["learning_rate"]) == (3, 30, 0.75, 0.01)
    assert (line["generator_loss"], line["real_losses"], line["fake_losses"]) == (3.0, [3.0, 5.0], [7.0, 5.0])
    assert line["weights"] == [0.5, pytest.approx(1 / 3)], "of every step, whether or not they add up to 1"
    assert line["learning_rate_d"] == 0.02
    assert "penalties" not in line
    assert line["peak_device_memory_bytes"] is None


@pytest.mark.parametrize(
    ("step", "bad", "name"),
    [
        (1, result(float("nan"), [0.0, 0.0], [0.0, 0.0], EVEN), "step 5: the generator loss is nan"),
        (2, result(0.0, [0.0, float("inf")], [0.0, 0.0], EVEN), "step 6: the real loss of discriminator 1 is inf"),
        (0, result(0.0, [0.0, 0.0], [float("nan"), 0.0], EVEN), "step 4: the fake loss of discriminator 0 is nan"),
        (0, result(0.0, [0.0, 0.0], [0.0, 0.0], [0.0, math.inf]), "step 4: the weight of discriminator 1 is inf"),
    ],
)
def test_the_first_value_that_is_not_finite_is_named(step: int, bad: StepResult, name: str, tmp_path: Path) -> None:
    metrics_log = log_of(tmp_path / "m.jsonl")
    for i in range(3):
        metrics_log.record(bad if i == step else result(0.0, [0.0, 0.0], [0.0, 0.0], EVEN))
    with pytest.raises(TrainingDivergedError, match=name):
        metrics_log.log(6, 0.01, 0.01)
    with pytest.raises(TrainingDivergedError, match=name):
        metrics_log.state(6)


def test_penalties_are_logged_where_there_are_any(tmp_path: Path) -> None:
    metrics_log = log_of(tmp_path / "m.jsonl", penalty="r1:0.1:2", discriminator_norm="none")
    metrics_log.stopwatch.restart()
    metrics_log.record(result(0.0, [0.0, 0.0], [0.0, 0.0], EVEN, [2.0, 4.0]))
    metrics_log.record(result(0.0, [0.0, 0.0], [0.0, 0.0], EVEN, [0.0, 0.0]))
    assert metrics_log.log(2, 0.01, 0.01)["penalties"] == [1.0, 2.0]
    metrics_log.record(result(0.0, [0.0, 0.0], [0.0, 0.0], EVEN, [0.0, math.nan]))
    with pytest.raises(TrainingDivergedError, match="step 3: the penalty of discriminator 1 is nan"):
        metrics_log.log(3, 0.01, 0.01)


def test_images_of_every_discriminator_step_are_counted(tmp_path: Path) -> None:
    metrics_log = log_of(tmp_path / "m.jsonl", d_steps=3)
    metrics_log.stopwatch.restart()
    metrics_log.record(result(0.0, [0.0, 0.0], [0.0, 0.0], EVEN))
    line = metrics_log.log(1, 0.01, 0.01)
    assert (line["images_seen"], line["global_batch_size"], line["epoch"]) == (30, 10, 0.25)


def test_what_a_checkpoint_keeps_goes_into_the_next_tick(tmp_path: Path) -> None:
    first, second = (log_of(tmp_path / "m.jsonl", model="dcgan") for _ in range(2))
    first.stopwatch.restart()
    first.record(result(1.0, [1.0], [1.0], [1.0]))
    time.sleep(0.2)
    second.load_state(first.state(1))
    second.stopwatch.restart()
    second.record(result(3.0, [1.0], [1.0], [1.0]))
    line = second.log(2, 0.01, 0.01)
    assert (line["generator_loss"], line["weights"]) == (2.0, [1.0])
    assert line["training_seconds"] >= 0.2
    assert line["images_per_second"] <= 2 * 10 / 0.2, "both steps' images over both steps' time"


def test_the_stopwatch_leaves_out_pauses_and_counts_data() -> None:
    watch = Stopwatch(CPU)
    watch.restart()
    with watch.data():
        time.sleep(0.02)
    with watch.paused():
        time.sleep(0.2)
        assert watch.lap()[0] < 0.15, "a lap inside a pause counts none of the pause"
    seconds, data_seconds = watch.lap()
    assert (seconds < 0.1, data_seconds) == (True, 0.0)


def test_a_line_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    metrics_log = log_of(tmp_path / "nowhere" / "m.jsonl", model="dcgan")
    metrics_log.stopwatch.restart()
    metrics_log.record(result(0.0, [0.0], [0.0], [1.0]))
    with pytest.raises(ExternalError, match=r"m\.jsonl: No such file"):
        metrics_log.log(1, 0.1, 0.1)


def test_peak_memory_is_in_bytes() -> None:
    assert 50 * 2**20 < peak_memory() < 2**40


def test_peak_memory_is_not_that_of_the_process_before() -> None:
    ballast = torch.ones(150 << 18)  # 150 MB
    code = "from d3gan.training.metrics import peak_memory; print(peak_memory())"
    own = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert own < peak_memory() - 100 * 2**20, "it inherited the peak of the process that started it"
    del ballast
