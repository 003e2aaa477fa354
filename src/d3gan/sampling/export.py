"""Exports a run's generator for other programs."""

import logging
import warnings
from pathlib import Path
from typing import Literal

import torch

from d3gan.errors import ConfigError
from d3gan.files import replace_file
from d3gan.models.base import GeneratorNetwork
from d3gan.runs.directory import home_of
from d3gan.runs.generator_file import load_generator, read_facts, save_generator


def export(run: str, form: Literal["safetensors", "onnx"], out: str = "") -> Path:
    """Writes the generator, in eval mode, as one file.

    Args:
        run: a run directory, or a generator.safetensors.
        form: ``safetensors`` (weights; architecture and classes in the header) or ``onnx`` (input ``latents`` (N, nz)
            float32, with classes also ``labels`` (N,) int64; output ``images`` (N, nc, S, S) float32 in [-1, 1]; N
            free).
        out: the file; empty: generator-export.FORMAT in the run directory.

    Returns:
        The path written.

    Raises:
        ConfigError: there is no such run, or ONNX is not installed.
        ExternalError: the run's file is damaged, or the new one cannot be written.
    """
    path = Path(out or home_of(run) / f"generator-export.{form}")
    generator = load_generator(run)
    if form == "safetensors":
        save_generator(generator, path, read_facts(run))
    else:
        with replace_file(path) as file:
            file.write(_onnx_bytes(generator))
    return path


def _onnx_bytes(generator: GeneratorNetwork) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError("--format onnx: ONNX is not installed; pip install 'd3gan[onnx]'") from error
    # The exporter warns of torchvision's absence and of its own deprecations, which a user cannot change.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    inputs = {"latents": torch.zeros(2, generator.nz)}
    if generator.classes:
        inputs["labels"] = torch.zeros(2, dtype=torch.int64)
    batch = torch.export.Dim("N")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            generator,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            input_names=list(inputs),
            output_names=["images"],
            verbose=False,
        )
    assert program is not None  # as documented for dynamo=True
    return bytes(program.model_proto.SerializeToString())
