"""A run to evaluate."""

from pathlib import Path

import pytest
import torch

from d3gan import TrainConfig, train
from tests.conftest import tiny_settings


@pytest.fixture(scope="session")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 22 steps with a moving average."""
    torch.set_num_threads(1)
    return train(TrainConfig(**tiny_settings(pictures, tmp_path_factory.mktemp("run") / "run", ema=0.9))).run
