"""A run, and an extractor of a user's own that is fast."""

import warnings
from pathlib import Path

import pytest
import torch

from d3gan import TrainConfig, train
from tests.conftest import tiny_settings
from tests.evaluation.networks import TinyNetwork


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file: 8 features, 4 logits."""
    path = tmp_path_factory.mktemp("network") / "tiny.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit")  # deprecated; FutureWarning since torch 2.14
        traced = torch.jit.trace(TinyNetwork().eval(), torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
        torch.jit.save(traced, str(path))
    return path


@pytest.fixture(scope="session")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 22 steps with a moving average."""
    torch.set_num_threads(1)
    return train(TrainConfig(**tiny_settings(pictures, tmp_path_factory.mktemp("run") / "run", ema=0.9))).run
