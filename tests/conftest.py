"""What all tests share: a data folder of their own, one thread, and a tiny run."""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# One thread, here and in the processes that tests start, so that all of them compute the same bits.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from d3gan import TrainConfig
from tests.chromium import open_chromium
from tests.evaluation.networks import TinyNetwork

IMAGES = 44
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one may take longer than 0.2 s
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3GAN_DATA", str(tmp_path_factory.getbasetemp() / "d3gan-data"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What d3gan logs during the test, line by line."""
    logger, handler = logging.getLogger("d3gan"), Kept()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 44 colour images of 16 x 16 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 3), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser; tests that need it are skipped where there is none."""
    with open_chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file: 8 features, 4 logits."""
    path = tmp_path_factory.mktemp("network") / "tiny.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit")  # deprecated; FutureWarning since torch 2.14
        traced = torch.jit.trace(TinyNetwork().eval(), torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
        torch.jit.save(traced, str(path))
    return path


def tiny_settings(dataset: Path, out: Path, /, **changes: Any) -> dict[str, Any]:
    """A run of 22 steps (two epochs of 11) that takes a second."""
    settings = dict(
        dataset=str(dataset),
        out=str(out),
        image_size=16,
        batch_size=4,
        nz=6,
        ngf=4,
        ndf=4,
        epochs=2,
        checkpoint=5,
        log_every=3,
        device="cpu",
        precision="float32",
    )
    return settings | changes


@pytest.fixture
def tiny(pictures: Path, tmp_path: Path) -> Any:
    """Makes the config of a tiny run: ``tiny("name of its folder", key=value, …)``."""

    def make(name: str = "run", **changes: Any) -> TrainConfig:
        return TrainConfig(**tiny_settings(pictures, tmp_path / name, **changes))

    return make
