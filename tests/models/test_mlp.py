"""The networks for points in the plane."""

import pytest
import torch

from d3gan.models import mlp
from d3gan.models.networks import make_generator


def test_the_published_widths_have_the_published_numbers_of_parameters() -> None:
    """PacGAN's layers: 4 hidden of 400 with BatchNorm and no biases; 3 hidden of 200 maxout units of 5 pieces."""
    generator = mlp.Generator(2, 400)
    batch_norms = 4 * 2 * 400
    assert sum(p.numel() for p in generator.parameters()) == 2 * 400 + 3 * 400**2 + batch_norms + 400 * 2 + 2
    discriminator = mlp.Discriminator(200)
    layers = [(2 + 1) * 1000, (200 + 1) * 1000, (200 + 1) * 1000, 200 + 1]
    assert sum(p.numel() for p in discriminator.parameters()) == sum(layers)


def test_a_maxout_unit_is_the_largest_of_its_pieces() -> None:
    pieces = torch.tensor([[1.0, 5.0, 2.0, 0.0, -1.0, -9.0, -3.0, -2.0, -8.0, -7.0]])
    assert mlp.Maxout()(pieces).tolist() == [[5.0, -2.0]]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_each_logit_depends_on_its_point_alone_without_batch_norm(batch_norm: bool) -> None:
    network = mlp.Discriminator(6, batch_norm)
    points = torch.randn(9, 2)
    changed = points.clone()
    changed[0] += 1
    before, after = network(points), network(changed)
    assert before.shape == (9,)
    assert (before[1:] == after[1:]).all() != batch_norm


def test_a_generator_is_made_again_from_its_architecture() -> None:
    generator = mlp.Generator(3, 7, "mish")
    again = make_generator(generator.architecture)
    again.load_state_dict(generator.state_dict())
    latents = torch.randn(4, 3)
    assert torch.equal(again.eval()(latents), generator.eval()(latents))
    assert (again.sample_shape, again.makes_points) == ((2,), True)
