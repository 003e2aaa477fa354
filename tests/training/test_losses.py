"""Every loss against its formula, written out for single logits with the functions of ``math``, in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d3gan.config.recipes import MODELS, SOURCES, Recipe
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import choices, field_types
from d3gan.models.base import ACTIVATIONS
from d3gan.training.losses import LOSSES, PAIRINGS, fake_loss, make_loss, own, real_loss, swapped
from d3gan.training.weighting import WEIGHTINGS

REAL = [[0.3, -1.7, 2.2, 0.9], [-0.4, 1.4, -3.1, 0.2], [5.0, -0.6, 0.1, -2.0]]
FAKE = [[-0.8, 1.2, -2.5, 0.4], [0.7, -1.1, 2.6, -0.3], [-4.0, 3.0, 0.5, -0.2]]
ALPHA, BETA = 0.7, 0.3

Term = Callable[[float], float]


def s(a: float) -> float:
    return math.log(1 + math.exp(a))


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


# Loss -> terms of one logit and their derivatives: D's on a real image, D's on a fake one, G's on a fake one.
TERMS: dict[str, list[tuple[Term, Term]]] = {
    "bce": [
        (lambda a: s(-a), lambda a: -sigmoid(-a)),
        (s, sigmoid),
        (lambda a: s(-a), lambda a: -sigmoid(-a)),
    ],
    "hinge": [
        (lambda a: max(0.0, 1 - a), lambda a: -1.0 if a < 1 else 0.0),
        (lambda a: max(0.0, 1 + a), lambda a: 1.0 if a > -1 else 0.0),
        (lambda a: -a, lambda a: -1.0),
    ],
    "least-squares": [
        (lambda a: (a - 1) ** 2 / 2, lambda a: a - 1),
        (lambda a: a**2 / 2, lambda a: a),
        (lambda a: (a - 1) ** 2 / 2, lambda a: a - 1),
    ],
    "wasserstein": [
        (lambda a: -a, lambda a: -1.0),
        (lambda a: a, lambda a: 1.0),
        (lambda a: -a, lambda a: -1.0),
    ],
}


def logits() -> tuple[Tensor, Tensor]:
    real, fake = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (REAL, FAKE))
    return real, fake


def check(losses: Tensor, logits: Tensor, expected: list[list[float]], derivatives: list[list[float]]) -> None:
    """Means over each row of single terms, and the gradient of their sum with respect to the logits."""
    means = [math.fsum(row) / len(row) for row in expected]
    assert losses.tolist() == pytest.approx(means, rel=1e-13, abs=1e-15)
    (gradient,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
    for row, by_hand in zip(gradient.tolist(), derivatives, strict=True):
        assert row == pytest.approx([each / len(by_hand) for each in by_hand], rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_loss_equals_its_formula(name: str) -> None:
    loss, (real, fake) = LOSSES[name], logits()
    of_real, of_fake = loss.discriminator(real, fake)
    found = [(of_real, real, REAL), (of_fake, fake, FAKE), (loss.generator(fake, None), fake, FAKE)]
    for (losses, tensor, values), (term, derivative) in zip(found, TERMS[name], strict=True):
        by_hand = ([[f(a) for a in row] for row in values] for f in (term, derivative))
        check(losses, tensor, *by_hand)
    # The generator may be given one discriminator's logits.
    assert loss.generator(fake[1], None).item() == pytest.approx(loss.generator(fake, None)[1].item(), rel=1e-14)
    assert not loss.relativistic


def test_relativistic_loss_compares_pairs() -> None:
    loss, (real, fake) = LOSSES["relativistic"], logits()
    of_real, of_fake = loss.discriminator(real, fake)
    gaps = [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(REAL, FAKE, strict=True)]
    terms = [[s(-gap) for gap in row] for row in gaps]
    slopes = [[-sigmoid(-gap) for gap in row] for row in gaps]
    check(of_real, real, terms, slopes)
    check(of_real, fake, terms, [[-slope for slope in row] for row in slopes])
    assert of_fake.tolist() == [0.0] * 3
    assert loss.relativistic
    found = loss.generator(fake, real.detach())
    check(found, fake, [[s(gap) for gap in row] for row in gaps], [[-sigmoid(gap) for gap in row] for row in gaps])
    assert loss.generator(fake[2], real[2]).item() == pytest.approx(found[2].item(), rel=1e-14)


def test_d2gan_has_two_losses() -> None:
    loss, (real, fake) = make_loss("d2gan", ALPHA, BETA), logits()
    real, fake = (tensor[:2].detach().requires_grad_() for tensor in (real, fake))
    of_real, of_fake = loss.discriminator(real, fake)
    check(
        of_real,
        real,
        [[-ALPHA * math.log(s(a)) for a in REAL[0]], [s(a) for a in REAL[1]]],
        [[-ALPHA * sigmoid(a) / s(a) for a in REAL[0]], [sigmoid(a) for a in REAL[1]]],
    )
    check(
        of_fake,
        fake,
        [[s(a) for a in FAKE[0]], [-BETA * math.log(s(a)) for a in FAKE[1]]],
        [[sigmoid(a) for a in FAKE[0]], [-BETA * sigmoid(a) / s(a) for a in FAKE[1]]],
    )
    check(
        loss.generator(fake, None),
        fake,
        [[-s(a) for a in FAKE[0]], [BETA * math.log(s(a)) for a in FAKE[1]]],
        [[-sigmoid(a) for a in FAKE[0]], [BETA * sigmoid(a) / s(a) for a in FAKE[1]]],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_d2gans_logarithm_is_right_at_extreme_logits(dtype: torch.dtype) -> None:
    """log s(a) is a where e^a vanishes and log a where it is huge; its slope goes from 1 to 1/a."""
    values = [-1e4, -700.0, -100.0, -50.0, -36.5, -35.5, -20.0, 0.0, 30.0, 90.0, 1e4]
    expected, slopes = [], []
    for a in values:
        small = a < -30
        expected.append(a - math.exp(max(a, -700.0)) / 2 if small else math.log(math.log1p(math.exp(min(a, 700.0)))))
        slopes.append(1.0 if small else sigmoid(a) / math.log1p(math.exp(min(a, 700.0))))
        if a > 700:
            expected[-1], slopes[-1] = math.log(a), 1 / a
    tensor = torch.tensor([[0.0] * len(values), values], dtype=dtype, requires_grad=True)
    found = make_loss("d2gan", 1.0, 1.0).discriminator
    for index, value in enumerate(values):
        one = tensor[:, index : index + 1]
        assert found(torch.zeros_like(one), one)[1][1].item() == pytest.approx(-expected[index], rel=1e-6)
        if dtype == torch.float64:
            assert found(torch.zeros_like(one), one)[1][1].item() == pytest.approx(-expected[index], rel=1e-13), value
    make_loss("d2gan", 1.0, 1.0).generator(tensor, None)[1].backward()
    assert tensor.grad is not None
    gradient = (tensor.grad[1] * len(values)).tolist()
    assert gradient == pytest.approx(slopes, rel=1e-5 if dtype == torch.float32 else 1e-12)


def test_losses_are_binary_cross_entropy_over_the_last_dimension() -> None:
    logits = torch.randn(3, 7, dtype=torch.float64)
    for loss, label in ((real_loss, 1.0), (fake_loss, 0.0)):
        expected = functional.binary_cross_entropy(
            torch.sigmoid(logits), torch.full_like(logits, label), reduction="none"
        )
        torch.testing.assert_close(loss(logits), expected.mean(dim=1))


@pytest.mark.parametrize("name", [*sorted(LOSSES), "d2gan"])
def test_low_precision_logits_are_averaged_in_float32(name: str) -> None:
    loss = make_loss(name, ALPHA, BETA)
    real, fake = (
        torch.linspace(-3, 3, 2002).bfloat16().view(2, -1),
        torch.linspace(2, -4, 2002).bfloat16().view(2, -1),
    )
    coarse = *loss.discriminator(real, fake), loss.generator(fake, real)
    fine = *loss.discriminator(real.float(), fake.float()), loss.generator(fake.float(), real.float())
    for a, b in zip(coarse, fine, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_pairings() -> None:
    losses = torch.tensor([1.0, 2.0, 3.0])
    assert own(losses).tolist() == [1.0, 2.0, 3.0]
    assert swapped(losses).tolist() == [2.0, 3.0, 1.0]
    assert swapped(losses[:2]).tolist() == [2.0, 1.0]
    assert swapped(losses[:1]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("pairing", PAIRINGS),
        ("weighting", WEIGHTINGS),
        ("loss", [*LOSSES, "d2gan"]),
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
    assert {*SOURCES} == {*MODELS}


def test_a_twin_differs_from_its_model_in_the_weights_alone() -> None:
    twins = [name for name in MODELS if name.endswith("-mean") and name != "duelgan-mean"]
    assert len(twins) == 5
    for name in twins:
        model = MODELS[name.removesuffix("-mean")]  # type: ignore[index]
        assert {**vars(model), "weighting": "mean"} == vars(MODELS[name])
        assert model.weighting != "mean"
    without = {**vars(MODELS["duelgan"]), "duel_beta": 0.0, "duel_alpha": 0.0}
    assert without == vars(MODELS["duelgan-mean"])
    assert without != vars(MODELS["duelgan"])
