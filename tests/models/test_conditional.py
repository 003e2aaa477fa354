"""Class conditioning: against BatchNorm and against the formula of the projection."""

import pytest
import torch
from torch import nn

from d3gan.models import dcgan
from d3gan.models.conditional import ConditionalBatchNorm2d, Projection
from d3gan.models.spectral_norm import add_spectral_norm
from d3gan.randomness import stream


def test_conditional_batch_norm_with_equal_rows_is_batch_norm() -> None:
    plain, conditional = nn.BatchNorm2d(3).double(), ConditionalBatchNorm2d(3, 5).double()
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([0.5, 1.5, 2.0]))
        plain.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
        conditional.gain.copy_(plain.weight.expand(5, -1))
        conditional.bias.copy_(plain.bias.expand(5, -1))
    maps, labels = torch.randn(6, 3, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 0])
    for training in (True, False):
        plain.train(training)
        conditional.train(training)
        torch.testing.assert_close(conditional(maps, labels), plain(maps), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(conditional.norm.running_var, plain.running_var)


def test_each_image_takes_its_classes_row() -> None:
    norm = ConditionalBatchNorm2d(2, 3).double()
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        norm.bias.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]))
    maps, labels = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.tensor([2, 0, 2, 1])
    mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3), unbiased=False)
    for i, y in enumerate(labels):
        for c in range(2):
            normalized = (maps[i, c] - mean[c]) / torch.sqrt(variance[c] + 1e-5)
            expected = norm.gain[y, c] * normalized + norm.bias[y, c]
            torch.testing.assert_close(norm(maps, labels)[i, c], expected)


def test_the_projection_adds_the_product_of_the_labels_row_and_the_summed_features() -> None:
    network = dcgan.Discriminator(16, 4, classes=3).double()
    dcgan.initialize(network, stream(0, "test"))
    assert network.projection is not None
    images, labels = torch.randn(5, 3, 16, 16, dtype=torch.float64), torch.tensor([2, 0, 1, 1, 2])
    features = network.layers[:-1](images)
    plain = network.layers[-1](features)[:, 0, 0, 0]
    rows = network.projection.weight
    expected = [plain[i] + sum(rows[y, c] * features[i, c].sum() for c in range(16)) for i, y in enumerate(labels)]
    torch.testing.assert_close(network(images, labels), torch.stack(expected))
    assert rows.abs().max() > 0.01


def test_spectral_norm_holds_the_projections_table_too() -> None:
    network = dcgan.Discriminator(16, 4, batch_norm=False, classes=3)
    dcgan.initialize(network, stream(0, "test"))
    add_spectral_norm(network, stream(0, "spectral norm"))
    projection = network.projection
    assert isinstance(projection, Projection)
    network(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
    assert torch.linalg.matrix_norm(projection.weight, 2).item() == pytest.approx(1.0, rel=0.05)


def test_the_tables_gradients_repeat_bit_for_bit_on_several_threads() -> None:
    torch.set_num_threads(4)
    norm, projection = ConditionalBatchNorm2d(512, 10), Projection(10, 512)
    inputs, labels = torch.randn(512, 512), torch.randint(10, (512,))

    def gradients() -> list[torch.Tensor]:
        outputs = norm(inputs[:, :, None, None], labels).square().sum() + projection(inputs, labels).sin().sum()
        return list(torch.autograd.grad(outputs, [norm.gain, norm.bias, projection.weight]))

    first = gradients()
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(gradients(), first, strict=True))


def test_without_classes_labels_change_nothing_and_with_classes_they_are_needed() -> None:
    plain, conditional = dcgan.Generator(16, 5, 4), dcgan.Generator(16, 5, 4, classes=3)
    latents, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
    assert torch.equal(plain(latents, labels), plain(latents))
    assert "classes" not in plain.architecture
    assert conditional.architecture["classes"] == 3
    with pytest.raises(TypeError, match="3 classes"):
        conditional(latents)
