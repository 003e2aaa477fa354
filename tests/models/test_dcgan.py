import pytest
import torch
from torch import nn

from d3gan import TrainConfig
from d3gan.models.dcgan import Discriminator, Generator, initialize
from d3gan.models.discriminators import Discriminators
from d3gan.models.widths import stage_multipliers
from d3gan.training.setup import build_gan

SIZES = [16, 32, 64, 128, 256]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    assert parameters(Generator(32, 100, 64, 3)) == 2_962_304
    assert parameters(Discriminator(32, 64, 3)) == 2_759_424


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_shapes_and_ranges_at_every_resolution(size: int, nc: int) -> None:
    images = Generator(size, 7, 2, nc)(torch.randn(2, 7))
    assert images.shape == (2, nc, size, size)
    assert images.abs().max() <= 1
    assert Discriminator(size, 2, nc)(images).shape == (2,)


@pytest.mark.parametrize("size", [0, 8, 33, 512])
def test_other_resolutions_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="must be 16, 32, 64, 128 or 256"):
        Generator(size)


def test_widths_double_inwards_up_to_eight_times() -> None:
    assert [stage_multipliers(s) for s in SIZES] == [
        [1, 2, 4],
        [1, 2, 4, 8],
        [1, 2, 4, 8],
        [1, 2, 4, 8, 8],
        [1, 2, 4, 8, 8, 8],
    ]


@pytest.mark.parametrize(
    ("activation", "layer"), [("relu", nn.ReLU), ("mish", nn.Mish), ("leaky_relu", nn.LeakyReLU)]
)
def test_the_activation_is_the_generators(activation: str, layer: type[nn.Module]) -> None:
    assert sum(isinstance(m, layer) for m in Generator(32, 4, 2, 3, activation).modules()) == 4


def test_first_weights_have_the_published_spread() -> None:
    network = Discriminator(32, 64, 3)
    initialize(network, torch.Generator().manual_seed(0))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.mean().abs() < 0.005
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.bias is None
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.3)
            assert module.bias.abs().max() == 0


def test_real_and_fake_batches_keep_separate_statistics() -> None:
    discriminators = Discriminators([Discriminator(16, 4, 1) for _ in range(2)])
    real_images, fake_images = torch.randn(6, 1, 16, 16), 3 * torch.randn(6, 1, 16, 16) + 1
    real_logits, fake_logits, _ = discriminators(real_images, fake_images)
    assert real_logits.shape == fake_logits.shape == (2, 6)
    other_logits, _, _ = discriminators(real_images, -fake_images)
    assert torch.equal(real_logits, other_logits), "the fake batch must not reach the real batch's BatchNorm"
    assert not list(discriminators.buffers())


def test_models_with_one_seed_share_their_first_weights() -> None:
    def first_weights(**changes: object) -> dict[str, torch.Tensor]:
        config = TrainConfig(image_size=16, ngf=3, ndf=3, nz=4, **changes)  # type: ignore[arg-type]
        gan = build_gan(config, torch.device("cpu"), "float32")
        return gan.generator.state_dict() | gan.discriminators.state_dict()

    single, triple = first_weights(discriminators=1), first_weights(discriminators=3)
    assert all(torch.equal(value, triple[name]) for name, value in single.items())
    assert not torch.equal(triple["members.0.layers.0.weight"], triple["members.1.layers.0.weight"])
    other = first_weights(discriminators=1, seed=1)
    assert not torch.equal(single["members.0.layers.0.weight"], other["members.0.layers.0.weight"])
    assert not torch.equal(single["layers.0.weight"], other["layers.0.weight"])
