"""d3gan: train GANs with one, two or more discriminators, and find out whether the second one pays.

``TrainConfig, train, load_generator, sample`` are the whole interface for programs; they are imported when they are
first asked for, so that ``d3gan --help`` need not wait for torch.
"""

from typing import TYPE_CHECKING, Any

from d3gan.version import __version__

if TYPE_CHECKING:
    from d3gan.config.train_config import TrainConfig
    from d3gan.runs.generator_file import load_generator
    from d3gan.sampling.generate import sample
    from d3gan.training.loop import train

__all__ = ["TrainConfig", "__version__", "load_generator", "sample", "train"]

_HOMES = {
    "TrainConfig": "d3gan.config.train_config",
    "train": "d3gan.training.loop",
    "load_generator": "d3gan.runs.generator_file",
    "sample": "d3gan.sampling.generate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'd3gan' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
