import pytest
import torch
from torch.nn import functional

from d3gan.config.recipes import MODELS, Recipe
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import choices, field_types
from d3gan.models.dcgan import ACTIVATIONS
from d3gan.training.losses import LOSSES, PAIRINGS, fake_loss, own, real_loss, swapped
from d3gan.training.weighting import WEIGHTINGS, Argmax, Argmin


def test_errors_are_binary_cross_entropy_over_the_last_dimension() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64)
    for error, label in ((real_loss, 1.0), (fake_loss, 0.0)):
        expected = functional.binary_cross_entropy(
            torch.sigmoid(logits), torch.full_like(logits, label), reduction="none"
        )
        torch.testing.assert_close(error(logits), expected.mean(dim=1))


def test_low_precision_logits_are_averaged_in_float32() -> None:
    logits = torch.linspace(-3, 3, 1001).bfloat16()
    assert real_loss(logits).dtype == torch.float32
    torch.testing.assert_close(real_loss(logits), real_loss(logits.float()))


def test_pairings() -> None:
    errors = torch.tensor([1.0, 2.0, 3.0])
    assert own(errors).tolist() == [1.0, 2.0, 3.0]
    assert swapped(errors).tolist() == [2.0, 3.0, 1.0]
    assert swapped(errors[:2]).tolist() == [2.0, 1.0]
    assert swapped(errors[:1]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("errors", "largest", "smallest"),
    [([1.0, 3.0, 2.0], 1, 0), ([2.0, 2.0], 0, 0), ([0.0, 5.0, 5.0, 0.0], 1, 0), ([4.0], 0, 0)],
)
def test_selections_take_the_lowest_index_of_equal_errors(errors: list[float], largest: int, smallest: int) -> None:
    K, losses = len(errors), torch.tensor(errors)
    assert Argmax(K).select(losses, None).item() == largest
    assert Argmin(K).select(losses, None).item() == smallest
    assert Argmax(K).select(losses, None).dtype == torch.int64


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("pairing", PAIRINGS),
        ("weighting", WEIGHTINGS),
        ("loss", {**LOSSES, "d2gan": None}),
        ("activation", ACTIVATIONS),
    ],
)
def test_every_name_the_config_allows_is_there(key: str, names: dict[str, object]) -> None:
    allowed = set(choices(field_types(TrainConfig)[key]))
    assert allowed == {*names, "model"}


def test_models_reproduce_the_published_programs_and_the_controlled_pair_differs_in_k_alone() -> None:
    assert MODELS["dcgan"] == Recipe(1, "swapped", "argmax", "bce", "relu", "linear")
    assert MODELS["d3gan"] == Recipe(2, "swapped", "argmax", "bce", "mish", "constant")
    single, dual = MODELS["dcgan-controlled"], MODELS["d3gan-controlled"]
    assert (single.discriminators, dual.discriminators) == (1, 2)
    assert {**vars(single), "discriminators": 2} == vars(dual)
