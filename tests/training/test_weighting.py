"""Every rule over discriminators against its formula, in float64, and what it does to the generator's gradient."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from d3gan import TrainConfig
from d3gan.training.setup import build_gan, make_weighting
from d3gan.training.step import GAN, StepContext, train_step
from d3gan.training.weighting import WEIGHTINGS, Weighting, nearest_to_origin

LOSSES = [0.7, 1.9, 0.2, 1.1]


def rule(name: str, K: int, **changes: Any) -> Weighting:
    return make_weighting(TrainConfig(discriminators=K, weighting=name, **changes)).double()  # type: ignore[arg-type]


def losses(values: list[float] = LOSSES) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def weigh(weighting: Weighting, evidence: Tensor, uniforms: Tensor | None = None) -> list[float]:
    """The weights of a rule without a gradient through them."""
    weights, derivatives = weighting(evidence, uniforms)
    assert torch.equal(weights, derivatives)
    assert not weights.requires_grad
    return [float(weight) for weight in weights]


def selected(weighting: Weighting, values: list[float], uniforms: Tensor | None = None) -> int:
    index = weighting.select(losses(values), uniforms)
    assert index is not None
    assert (index.shape, index.dtype) == ((), torch.int64)
    return int(index)


@pytest.mark.parametrize(
    ("values", "largest", "smallest"),
    [([1.0, 3.0, 2.0], 1, 0), ([2.0, 2.0], 0, 0), ([0.0, 5.0, 5.0, 0.0], 1, 0), ([4.0], 0, 0)],
)
def test_argmax_and_argmin_take_the_lowest_index_of_equal_losses(
    values: list[float], largest: int, smallest: int
) -> None:
    assert selected(rule("argmax", len(values)), values) == largest
    assert selected(rule("argmin", len(values)), values) == smallest


def test_random_takes_a_discriminator_by_its_uniform_number() -> None:
    weighting = rule("random", 4)
    for number, index in ((0.0, 0), (0.249, 0), (0.25, 1), (0.5, 2), (0.75, 3), (1 - 2**-24, 3)):
        assert selected(weighting, LOSSES, torch.tensor([number, 0.1, 0.1, 0.1, 0.9])) == index
    random = torch.Generator().manual_seed(0)
    counts = Counter(selected(weighting, LOSSES, torch.rand(5, generator=random)) for _ in range(4000))
    assert all(abs(count - 1000) < 120 for count in counts.values()), counts  # four standard deviations


def test_mean_and_sum() -> None:
    assert weigh(rule("mean", 4), losses()) == [0.25] * 4
    assert weigh(rule("sum", 4), losses()) == [1.0] * 4


def softmax(values: list[float], sharpness: float) -> list[float]:
    powers = [math.exp(sharpness * value) for value in values]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 3.5])
def test_softmax_weights_and_the_derivative_of_the_full_objective(sharpness: float) -> None:
    """d/dl_k of sum_j w_j l_j is w_k (1 + lambda (l_k - sum_j w_j l_j))."""
    weights, derivatives = rule("softmax", 4, softmax_lambda=sharpness)(losses(), None)
    by_hand = softmax(LOSSES, sharpness)
    mixed = math.fsum(w * value for w, value in zip(by_hand, LOSSES, strict=True))
    assert weights.tolist() == pytest.approx(by_hand, rel=1e-14)
    expected = [w * (1 + sharpness * (value - mixed)) for w, value in zip(by_hand, LOSSES, strict=True)]
    assert derivatives.tolist() == pytest.approx(expected, rel=1e-12)
    full = losses().requires_grad_()
    (torch.softmax(sharpness * full, dim=0) * full).sum().backward()
    torch.testing.assert_close(derivatives, full.grad, rtol=1e-13, atol=1e-15)
    assert not derivatives.requires_grad
    assert weigh(rule("softmax", 4, softmax_lambda=sharpness, softmax_gradient=False), losses()) == weights.tolist()


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("challenge", [0.0, 0.3])
def test_a_learned_lambda_has_the_gradient_of_its_objective(challenge: float, gradient: bool) -> None:
    settings = {"softmax_lambda": "learned", "softmax_challenge": challenge, "softmax_gradient": gradient}
    weighting = rule("softmax", 4, **settings)
    (v,) = weighting.parameters()
    assert v.item() == -2.0

    def objective(v: float) -> float:
        sharpness = math.log1p(math.exp(v))
        mixed = zip(softmax(LOSSES, sharpness), LOSSES, strict=True)
        return math.fsum(w * value for w, value in mixed) - challenge * sharpness

    weights, derivatives = weighting(losses(), None)
    assert weights.tolist() == pytest.approx(softmax(LOSSES, math.log1p(math.exp(-2.0))), rel=1e-13)
    assert torch.equal(weights, derivatives) is not gradient
    assert v.grad is not None
    step = 1e-5
    assert v.grad.item() == pytest.approx((objective(-2 + step) - objective(-2 - step)) / (2 * step), rel=1e-8)


def test_a_challenge_makes_lambda_grow_and_none_lets_it_fall() -> None:
    """A smaller lambda lowers the weighted loss; what a larger one earns must outweigh that."""
    for challenge, grows in ((0.0, False), (10.0, True)):
        gan = small_gan(3, "softmax", softmax_lambda="learned", softmax_challenge=challenge)
        for step in range(3):
            train_step(gan, *batch(step))
        (v,) = gan.weighting.parameters()
        assert (v.item() > -2) is grows


def test_hypervolume_weights_are_inverse_distances_to_the_nadir() -> None:
    nadir = 1.5 * max(LOSSES) + 1e-8
    inverse = [1 / (nadir - value) for value in LOSSES]
    expected = [each / sum(inverse) for each in inverse]
    assert weigh(rule("hypervolume", 4), losses()) == pytest.approx(expected, rel=1e-13)
    near = weigh(rule("hypervolume", 4, hypervolume_slack=1.000001), losses())
    assert near[1] > 0.9999
    assert weigh(rule("hypervolume", 4, hypervolume_slack=1e6), losses()) == pytest.approx([0.25] * 4, rel=1e-5)


def test_hypervolume_follows_the_gradient_of_its_objective() -> None:
    """-sum log(eta - l), with eta held fixed, up to the factor that makes the weights' sum 1."""
    values = losses().requires_grad_()
    (-torch.log(1.5 * values.max().detach() + 1e-8 - values).sum()).backward()
    assert values.grad is not None
    weights = weigh(rule("hypervolume", 4), losses())
    torch.testing.assert_close(losses(weights), values.grad / values.grad.sum(), rtol=1e-13, atol=0)


def test_dropout_keeps_what_its_uniform_numbers_say_and_never_nothing() -> None:
    weighting = rule("dropout", 3, dropout_rate=0.5)
    evidence = losses(LOSSES[:3])
    assert weigh(weighting, evidence, torch.tensor([0.5, 0.49, 0.9, 0.4])) == [1.0, 0.0, 1.0]
    for last, index in ((0.0, 0), (0.34, 1), (0.99, 2)):
        found = weigh(weighting, evidence, torch.tensor([0.1, 0.2, 0.3, last]))
        assert found == [float(k == index) for k in range(3)]
    uniforms = torch.rand(4)
    assert weigh(rule("dropout", 3, dropout_rate=0.0), evidence, uniforms) == [1.0] * 3
    assert sum(weigh(rule("dropout", 3, dropout_rate=1.0), evidence, uniforms)) == 1.0


def test_dropout_drops_at_its_rate() -> None:
    weighting, random = rule("dropout", 3, dropout_rate=0.25), torch.Generator().manual_seed(0)
    drawn = [weigh(weighting, losses(LOSSES[:3]), torch.rand(4, generator=random)) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.75 + 0.25**3 / 3, abs=0.025)


def test_the_bandit_averages_its_rewards() -> None:
    weighting = rule("bandit", 3, bandit_alpha=0.8, bandit_kappa=15.0)
    Q = [0.0] * 3
    for rewards in ([0.1, -0.2, 0.05], [0.0, 0.3, -0.1], [-0.05, 0.02, 0.01]):
        assert weigh(weighting, losses(LOSSES[:3])) == pytest.approx(softmax(Q, 15.0), rel=1e-12)
        weighting.learn(losses(rewards))
        Q = [0.8 * reward + 0.2 * q for reward, q in zip(rewards, Q, strict=True)]
    assert weigh(weighting, losses(LOSSES[:3])) == pytest.approx(softmax(Q, 15.0), rel=1e-12)


def test_the_bandits_reward_is_the_generators_progress() -> None:
    gan = small_gan(3, "bandit")
    Q = torch.zeros(3, dtype=torch.float64)

    def judged(latents: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in gan.generator.named_buffers()}
        with torch.no_grad():
            fakes = torch.func.functional_call(gan.generator, buffers, latents)
            return torch.stack([torch.sigmoid(member(fakes)).mean() for member in gan.discriminators.members])

    for step in range(3):
        before = {name: value.clone() for name, value in gan.generator.state_dict().items()}
        train_step(gan, *batch(step))
        after = judged(batch(step)[1])
        now = {name: value.clone() for name, value in gan.generator.state_dict().items()}
        gan.generator.load_state_dict(before)
        earlier = judged(batch(step)[1])
        gan.generator.load_state_dict(now)
        Q = 0.8 * (after - earlier) + 0.2 * Q
        torch.testing.assert_close(gan.weighting.get_buffer("Q"), Q, rtol=1e-9, atol=1e-12)
    assert Q.abs().min() > 1e-6


def test_the_bandits_reward_is_float32_under_bf16() -> None:
    """Progress is small: sigmoids rounded to 8 bits would not tell it."""
    gan = small_gan(3, "bandit", "bf16")
    real_images, latents, context = batch(0)
    before = {name: value.clone() for name, value in gan.generator.state_dict().items()}
    train_step(gan, real_images.float(), latents.float(), context)
    after = {name: value.clone() for name, value in gan.generator.state_dict().items()}
    judged = []
    for state in (after, before):
        gan.generator.load_state_dict(state)
        with torch.no_grad(), gan.autocast():
            fakes = gan.generator(latents.float())
            logits = torch.stack([member(fakes) for member in gan.discriminators.members])
        assert logits.dtype == torch.bfloat16
        judged.append(logits.double().sigmoid().mean(dim=1))
    rewards = judged[0] - judged[1]
    torch.testing.assert_close(gan.weighting.get_buffer("Q").double(), 0.8 * rewards, rtol=1e-3, atol=1e-6)


def test_the_bandit_leaves_the_generators_statistics_alone() -> None:
    bandit, mean = small_gan(2, "bandit"), small_gan(2, "mean")  # Q = 0 makes the first step's weights equal
    for gan in (bandit, mean):
        train_step(gan, *batch(0))
    for a, b in zip(bandit.generator.state_dict().values(), mean.generator.state_dict().values(), strict=True):
        assert torch.equal(a, b)


# --- mgd ------------------------------------------------------------------------------------------------------------


def simplex(K: int, steps: int) -> np.ndarray:
    """All points of the simplex whose coordinates are multiples of 1/steps."""
    points = [p for p in itertools.product(range(steps + 1), repeat=K - 1) if sum(p) <= steps]
    return np.array([[*p, steps - sum(p)] for p in points]) / steps


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_the_shortest_vector_against_all_points_of_a_grid(K: int, seed: int) -> None:
    # Few numbers per vector, and a common part, so that the shortest is often on an edge of the simplex.
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(K, 3)) * random.uniform(0.3, 2.0, (K, 1)) + random.normal(size=3)
    gram = vectors @ vectors.T
    weights = nearest_to_origin(gram)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    found = weights @ gram @ weights
    points = simplex(K, 400)
    values = np.einsum("pi,ij,pj->p", points, gram, points)
    assert found <= values.min() + 1e-12
    # The objective is flat near its minimum: it tells the weights up to the grid's width.
    assert values.min() - found <= 4 * K * np.abs(gram).max() / 400
    # Optimal: no vector makes a smaller product with the shortest than the shortest itself.
    assert (gram @ weights).min() >= found - 1e-10


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5]),
        ([[2.0, 0.0], [0.0, 1.0]], [0.2, 0.8]),
        ([[1.0, 0.0], [3.0, 1.0]], [1.0, 0.0]),  # the second only adds length
        ([[1.0, 1.0], [1.0, -1.0], [4.0, 0.0]], [0.5, 0.5, 0.0]),
        ([[1.0, 0.0], [-1.0, 0.0]], [0.5, 0.5]),  # the shortest vector is 0
        ([[0.3, 0.4]], [1.0]),
    ],
)
def test_the_shortest_vector_of_known_cases(vectors: list[list[float]], expected: list[float]) -> None:
    gram = np.array(vectors) @ np.array(vectors).T
    assert nearest_to_origin(gram).tolist() == pytest.approx(expected, abs=1e-7)


def test_equal_gradients_have_the_weights_sum_one() -> None:
    weights = nearest_to_origin(np.ones((3, 3)))
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)


def test_mgd_divides_gradients_by_their_norm() -> None:
    gradients = losses([3.0, 0.0, 0.0, 0.02]).view(2, 2)  # orthogonal, of very different length
    assert weigh(rule("mgd", 2), gradients) == pytest.approx([0.5, 0.5], abs=1e-12)


def test_mgd_in_a_step_reads_the_generators_gradients() -> None:
    gan, twin = small_gan(3, "mgd"), small_gan(3, "mean")
    result = train_step(gan, *batch(0))
    # The twin's discriminators make the same update; its generator before the update is this one's.
    train_step(twin, *batch(0))
    generator = small_gan(3, "mean").generator
    fakes = generator(batch(0)[1])
    gradients = []
    for member in twin.discriminators.members:
        loss = torch.nn.functional.softplus(-member(fakes)).mean()
        each = torch.autograd.grad(loss, list(generator.parameters()), retain_graph=True)
        flat = torch.cat([gradient.flatten() for gradient in each])
        gradients.append(flat / flat.norm())
    stacked = torch.stack(gradients)
    expected = nearest_to_origin((stacked @ stacked.T).numpy())
    assert result.weights.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert len({round(weight, 6) for weight in result.weights.tolist()}) > 1


# --- In a step ------------------------------------------------------------------------------------------------------


def small_gan(K: int, weighting: str, precision: Any = "float64", **changes: Any) -> GAN:
    settings: dict[str, Any] = dict(image_size=16, nz=5, ngf=3, ndf=4, nc=1, lr=2e-3)
    settings |= dict(discriminators=K, weighting=weighting)
    return build_gan(TrainConfig(**(settings | changes)), torch.device("cpu"), precision)


def batch(step: int) -> tuple[Tensor, Tensor, StepContext]:
    random = torch.Generator().manual_seed(100 + step)
    real_images = torch.rand(6, 1, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
    latents = torch.randn(6, 5, generator=random, dtype=torch.float64)
    return real_images, latents, StepContext(step, uniforms=torch.rand(9, generator=random))


def test_with_one_discriminator_every_rule_is_the_same() -> None:
    states = {}
    for name in WEIGHTINGS:
        gan = small_gan(1, name)
        for step in range(3):
            result = train_step(gan, *batch(step))
            assert result.weights.tolist() == [1.0], name
        states[name] = [*gan.generator.state_dict().values(), *gan.discriminators.state_dict().values()]
    for name, state in states.items():
        for a, b in zip(state, states["argmax"], strict=True):
            assert torch.equal(a, b), name


@pytest.mark.parametrize("weighting", ["mean", "softmax", "hypervolume", "bandit", "mgd"])
def test_equal_discriminators_are_as_good_as_one(weighting: str) -> None:
    """The generator's gradient is that of K = 1."""
    one, two = small_gan(1, "argmax"), small_gan(2, weighting)
    for member in two.discriminators.members:
        member.load_state_dict(one.discriminators.members[0].state_dict())
    for gan in (one, two):
        train_step(gan, *batch(0))
    for a, b in zip(one.generator.parameters(), two.generator.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-14)


def gradients_against_each(gan: GAN, generator: torch.nn.Module) -> tuple[list[Tensor], list[list[Tensor]]]:
    fakes = generator(batch(0)[1])
    each = [torch.nn.functional.softplus(-member(fakes)).mean() for member in gan.discriminators.members]
    parameters = list(generator.parameters())
    return each, [list(torch.autograd.grad(loss, parameters, retain_graph=True)) for loss in each]


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_the_generators_gradient_is_the_weighted_sum(weighting: str) -> None:
    gan = small_gan(3, weighting, softmax_gradient=False)
    result = train_step(gan, *batch(0))
    first = small_gan(3, weighting).generator
    each, gradients = gradients_against_each(gan, first)
    for index, parameter in enumerate(gan.generator.parameters()):
        expected = sum(weight * gradients[k][index] for k, weight in enumerate(result.weights.tolist()))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-14)
    weighted = math.fsum(w * loss.item() for w, loss in zip(result.weights.tolist(), each, strict=True))
    assert result.generator_loss.item() == pytest.approx(weighted, rel=1e-11)


def test_softmax_in_a_step_differentiates_through_its_weights() -> None:
    gan = small_gan(3, "softmax", softmax_lambda=4.0)
    train_step(gan, *batch(0))
    first = small_gan(3, "softmax").generator
    fakes = first(batch(0)[1])
    members = gan.discriminators.members
    each = torch.stack([torch.nn.functional.softplus(-member(fakes)).mean() for member in members])
    (torch.softmax(4.0 * each, dim=0) * each).sum().backward()
    for parameter, expected in zip(gan.generator.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_no_rule_changes_the_discriminators_update(weighting: str) -> None:
    gan, plain = small_gan(3, weighting), small_gan(3, "argmax")
    for each in (gan, plain):
        train_step(each, *batch(0))
    for a, b in zip(gan.discriminators.parameters(), plain.discriminators.parameters(), strict=True):
        assert torch.equal(a, b)
