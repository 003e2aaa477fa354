"""Networks as ONNX."""

import logging
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from d3gan.errors import ConfigError
from d3gan.models.base import GeneratorNetwork


def generator_onnx(generator: GeneratorNetwork) -> bytes:
    """The generator as ONNX, in eval mode.

    Its input is ``latents`` (N, nz) float32, with classes also ``labels`` (N,) int64; its output is ``images``
    (N, nc, S, S) float32 in [-1, 1], or points (N, 2) under the same name. N is free.

    Raises:
        ConfigError: ONNX is not installed.
    """
    inputs = {"latents": torch.zeros(2, generator.nz)}
    if generator.classes:
        inputs["labels"] = torch.zeros(2, dtype=torch.int64)
    return onnx_bytes(generator, inputs, ["images"])


def require_onnx() -> None:
    """Checks that the packages that write ONNX are there.

    Raises:
        ConfigError: one is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError("--format onnx and html: ONNX is not installed; pip install 'd3gan[onnx]'") from error


def onnx_bytes(network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> bytes:
    """A network as ONNX, in the mode that it is in.

    Args:
        network: what to export.
        inputs: name -> an example, whose first dimension, the batch, is free in the file.
        outputs: names of what it returns.

    Raises:
        ConfigError: ONNX is not installed.
    """
    require_onnx()
    # The exporter warns of torchvision's absence and of its own deprecations, which a user cannot change.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = torch.export.Dim("N")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None  # as documented for dynamo=True
    return bytes(program.model_proto.SerializeToString())
