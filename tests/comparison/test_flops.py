"""What a step costs, against PyTorch's own counter of operations."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, conv_backward_flop

from d3gan import TrainConfig
from d3gan.comparison.flops import flops_per_image
from d3gan.distributed.group import Group
from d3gan.training import penalties
from d3gan.training.accumulation import step_in_parts
from d3gan.training.inputs import StepInputs
from d3gan.training.setup import build_gan
from d3gan.training.step import StepContext, train_step


def counter() -> FlopCounterMode:
    """PyTorch's, which of a grouped convolution's weight gradient counts each group against all others too."""

    def backward(*args: Any, out_shape: Any) -> float:
        *others, groups, (of_input, of_weight, _) = args
        count: Any = conv_backward_flop
        inputs = count(*others, groups, [of_input, False, False], out_val=out_shape)
        return float(inputs + count(*others, groups, [False, of_weight, False], out_val=out_shape) // groups)

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: backward})


@pytest.mark.parametrize(
    "sizes",
    [
        {"model": "dcgan"},
        {"model": "d3gan"},
        {"image_size": 16, "ngf": 8, "nc": 1, "discriminators": 3},
        {"image_size": 64, "ndf": 8, "nz": 7},
        {"image_size": 128},
        {"image_size": 16, "nc": 1, "grad_accum_steps": 2},
        {"model": "d3gan-mean", "d_steps": 3},
        {"model": "gman", "image_size": 16, "batch_size": 8, "grad_accum_steps": 2, "d_steps": 2},
        {"model": "hgan", "image_size": 16},
        {"model": "hgan-mean", "image_size": 64, "nc": 1},
        {"model": "microbatchgan", "image_size": 16, "batch_size": 8},
        {"views": "slice", "microbatch_alpha": 0.1, "image_size": 16, "batch_size": 4, "grad_accum_steps": 2},
        {"model": "duelgan", "image_size": 16, "batch_size": 5},
        {"model": "duelgan", "image_size": 16, "discriminators": 3, "views": "projection,width", "d_steps": 2},
        {"model": "gman", "views": "slice,width", "image_size": 16, "batch_size": 8, "weighting": "bandit"},
        {"views": "slice,projection", "image_size": 16, "batch_size": 4},
        {"model": "dropout-gan", "image_size": 16},
        {"model": "md-gan", "image_size": 16, "batch_size": 8},
        {"model": "md-gan", "image_size": 16, "batch_size": 8, "discriminators": 4, "d_steps": 2},
        {"weighting": "bandit", "image_size": 16, "grad_accum_steps": 2},
        {"loss": "relativistic", "pairing": "own", "discriminator_norm": "spectral", "image_size": 16},
        {"network": "sndcgan", "model": "dcgan", "image_size": 16},
        {"network": "sndcgan", "image_size": 48, "nc": 1, "nz": 7, "d_steps": 2},
        {"network": "sndcgan", "model": "gman", "image_size": 64, "batch_size": 4, "views": "projection,width"},
        {"network": "resnet", "model": "dcgan"},
        {"network": "resnet", "image_size": 48, "nc": 1, "nz": 7, "ngf": 2, "ndf": 2, "d_steps": 2},
        {"network": "resnet", "image_size": 64, "batch_size": 4, "views": "projection,width", "model": "gman"},
        {"network": "r3gan", "model": "dcgan"},
        {"network": "r3gan", "image_size": 64, "nc": 1, "d_steps": 2, "ngf": 3, "ndf": 3},
        {"network": "r3gan", "image_size": 128, "batch_size": 4, "views": "projection,width", "model": "gman"},
    ],
)
def test_operations_are_those_that_pytorch_counts(sizes: dict[str, Any]) -> None:
    config = TrainConfig(**{"batch_size": 2, "ngf": 4, "ndf": 4, **sizes})
    assert flops_per_image(config) == pytest.approx(counted(config), rel=1e-12)


def counted(config: TrainConfig, uniform: float = 0.5) -> float:
    """Operations per image of a step in which a rule that draws draws this number."""
    gan = build_gan(config, torch.device("cpu"), "float64")  # in which all layers are PyTorch's own
    images = config.images_per_step
    pixels = np.zeros((images, config.nc, 16, 16), np.uint8)
    context = StepInputs(config, pixels, Group(), torch.device("cpu"), torch.float64).at(0)[2]
    context = dataclasses.replace(context, uniforms=torch.full((config.recipe.discriminators + 1,), uniform))
    real_images = torch.zeros(images, config.nc, config.image_size, config.image_size, dtype=torch.float64)
    with counter() as counted_flops:
        latents = torch.zeros(images, config.nz, dtype=torch.float64)
        step_in_parts(config.grad_accum_steps, gan.workers is not None)(gan, real_images, latents, context)
    return float(counted_flops.get_total_flops() / images)


def test_operations_of_one_of_several_widths_are_means() -> None:
    config = TrainConfig(weighting="random", views="width", image_size=16, batch_size=2, ngf=4, ndf=6)
    each = [counted(config, uniform) for uniform in (0.2, 0.7)]
    assert each[0] > each[1]
    assert flops_per_image(config) == pytest.approx(sum(each) / 2, rel=1e-12)


def test_operations_of_multiple_gradient_descent() -> None:
    config = TrainConfig(model="d3gan", weighting="mgd", batch_size=2, image_size=16, ngf=4, ndf=4)
    gan = build_gan(config, torch.device("cpu"), "float64")
    with counter() as counted_flops:
        train_step(gan, torch.rand(2, 3, 16, 16, dtype=torch.float64), torch.rand(2, 100, dtype=torch.float64))
    products = 2 * 2 * 2 * sum(parameter.numel() for parameter in gan.generator.parameters())  # of the gradients
    assert flops_per_image(config) == (counted_flops.get_total_flops() - products) / 2


@pytest.mark.parametrize(
    ("network", "penalty", "views"),
    [
        *(
            ("dcgan", penalty, views)
            for penalty in ("r1", "gp", "r1,r2", "lecam")
            for views in ("same", "projection,width", "slice")
        ),
        *(
            (network, penalty, views)
            for network in ("sndcgan", "resnet", "r3gan")
            for penalty, views in (("r1", "same"), ("gp", "projection,width"), ("r1,r2", "slice"))
        ),
    ],
)
def test_operations_of_penalties(network: Any, penalty: str, views: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(discriminator: torch.nn.Module, images: torch.Tensor, _labels: None = None) -> torch.Tensor:
        images = images.detach().requires_grad_() * 1.0  # the counter does not know gradients of leaves
        return torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)[0].flatten(1)

    monkeypatch.setattr(penalties, "_gradients", gradients)
    # At 16 and 32 pixels a projected image has an odd side, at which PyTorch computes more than it needs.
    side = 64 if "projection" in views or network == "resnet" else 16
    config = TrainConfig(penalty=penalty, discriminator_norm="none", batch_size=4, image_size=side, ngf=4, ndf=4)
    config = dataclasses.replace(config, network=network, views=views, weighting="mean")
    gan = build_gan(config, torch.device("cpu"), "float64")
    real_images, latents = torch.rand(4, 3, side, side, dtype=torch.float64), torch.rand(4, 100, dtype=torch.float64)
    with counter() as counted_flops:
        train_step(gan, real_images, latents, StepContext(mixing=torch.rand(4)))
    assert flops_per_image(config) == pytest.approx(counted_flops.get_total_flops() / 4, rel=1e-12)
    lazy = dataclasses.replace(config, penalty=",".join(f"{name}:0.1:4" for name in penalty.split(",")))
    without = flops_per_image(dataclasses.replace(config, penalty=""))
    assert flops_per_image(lazy) - without == pytest.approx((flops_per_image(config) - without) / 4)


def test_published_sizes() -> None:
    """The published numbers: 0.88 and 0.57 GFLOP per image."""
    assert round(flops_per_image(TrainConfig(model="d3gan")) / 1e9, 2) == 0.88
    assert round(flops_per_image(TrainConfig(model="dcgan")) / 1e9, 2) == 0.57
