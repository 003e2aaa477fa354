"""The step of two processes against one process that runs their batches one after the other."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from d3gan.training.accumulation import step_in_parts
from d3gan.training.setup import build_gan
from d3gan.training.step import StepContext
from tests.distributed.processes import results_of_two
from tests.distributed.programs import STEPS, batch, config, gradients_of, state_of


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return results_of_two("tests.distributed.programs", tmp_path_factory.mktemp("step"))


def plain_step(gan: Any, shards: list[tuple[Tensor, Tensor]]) -> tuple[int, dict[str, Tensor]]:
    """The step as one would write it for one process and several batches, each with its own BatchNorm statistics.

    In-place, with nothing of ``train_step``: the oracle. Returns the selected discriminator and the gradients.
    """
    fakes, after = [], []
    for _, latents in shards:
        after.append({name: b.clone() for name, b in gan.generator.named_buffers()})
        fakes.append(torch.func.functional_call(gan.generator, after[-1], latents))
    members = list(gan.discriminators.members)
    real = torch.stack([torch.stack([softplus(-d(x)).mean() for d in members]) for x, _ in shards]).mean(0)
    fake = torch.stack([torch.stack([softplus(d(f.detach())).mean() for d in members]) for f in fakes]).mean(0)
    gan.discriminator_optimizer.zero_grad()
    (real + fake).sum().backward()
    gradients = gradients_of(gan.discriminators, "discriminators")
    gan.discriminator_optimizer.step()
    errors = (real + fake.roll(-1, 0)).tolist()
    selected = errors.index(max(errors))
    gan.generator_optimizer.zero_grad()
    torch.stack([softplus(-members[selected](f)).mean() for f in fakes]).mean().backward()
    gan.generator_optimizer.step()
    for name, buffer in gan.generator.named_buffers():
        values = [a[name] for a in after]
        buffer.copy_(torch.stack(values).mean(0) if buffer.is_floating_point() else values[0])
    return selected, gradients | gradients_of(gan.generator, "generator")


@pytest.mark.parametrize(("name", "K"), [("two", 2), ("three", 3)])
def test_two_processes_do_what_one_does_with_both_batches(found: list[dict[str, Any]], name: str, K: int) -> None:
    gan = build_gan(config(K), torch.device("cpu"), "float64")
    selected = [plain_step(gan, [batch(step, rank) for rank in range(2)])[0] for step in range(STEPS)]
    assert found[0][name]["selected"] == selected
    for key, value in state_of(gan).items():
        torch.testing.assert_close(found[0][name]["state"][key], value, rtol=0, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", ["two", "three"])
def test_ranks_that_would_disagree_select_alike_and_stay_equal(found: list[dict[str, Any]], name: str) -> None:
    first, second = (ranks[name] for ranks in found)
    assert all(a != b for a, b in zip(first["alone"], second["alone"], strict=True)), "crafted to disagree"
    assert first["selected"] == second["selected"]
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key


def test_the_first_gradients_agree_in_float32(found: list[dict[str, Any]]) -> None:
    gan = build_gan(config(2), torch.device("cpu"), "float32")
    _, expected = plain_step(gan, [batch(0, rank, torch.float32) for rank in range(2)])
    assert expected.keys() == found[0]["gradients"].keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[0]["gradients"][name], gradient, rtol=0, atol=1e-6, msg=name)


def test_each_network_is_reduced_in_its_own_phase_alone(found: list[dict[str, Any]]) -> None:
    expected = ["discriminators", "generator", "/", "discriminators", "generator"]
    for ranks in found:
        names = [name for i, name in enumerate(ranks["reductions"]) if i == 0 or ranks["reductions"][i - 1] != name]
        assert names == expected


def test_a_step_has_one_exchange_beside_the_gradients(found: list[dict[str, Any]]) -> None:
    gan = build_gan(config(2), torch.device("cpu"), "float64")
    statistics = sum(b.numel() for b in gan.generator.buffers() if b.is_floating_point())
    assert [ranks["collectives"] for ranks in found] == [[4 + statistics + 1]] * 2


def test_a_failure_of_one_process_is_every_processs(found: list[dict[str, Any]]) -> None:
    of_one, of_all = "ConfigError: rank 1 on HOST: no such thing", "ExternalError: all alike"
    assert [ranks["failures"] for ranks in found] == [[of_one, of_all, "well", "ValueError: a defect"]] * 2


@pytest.mark.parametrize("K", [1, 2, 3])
def test_accumulated_batches_are_what_as_many_processes_would_do(K: int) -> None:
    ours, plain = (build_gan(config(K), torch.device("cpu"), "float64") for _ in range(2))
    for step in range(STEPS):
        shards = [batch(step, rank) for rank in range(3)]
        real_images, latents = (torch.cat(each) for each in zip(*shards, strict=True))
        result = step_in_parts(3)(ours, real_images, latents, StepContext())
        assert int(result.selected) == plain_step(plain, shards)[0]
    expected = state_of(plain)
    for key, value in state_of(ours).items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-10, msg=key)
