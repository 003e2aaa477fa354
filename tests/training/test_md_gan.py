"""MD-GAN in one process: the step against a plain computation, shards, swaps, and runs that stop and resume."""

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d3gan import TrainConfig, train
from d3gan.data.batches import Batches
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, TrainingDivergedError
from d3gan.randomness import stream
from d3gan.training.diagnostics import diagnose
from d3gan.training.inputs import StepInputs
from d3gan.training.md_gan import md_gan_step, swap_discriminators, swap_partners, workers_of
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext
from tests.conftest import tiny_settings
from tests.data.test_batches import indices, numbered
from tests.training.test_family import Adam, images_of, judge, minus_log_sigmoid, s
from tests.training.test_loop import assert_same_run, metrics

Tiny = Callable[..., TrainConfig]
CPU = torch.device("cpu")
N = 3  # images per worker


def small_config(K: int, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = dict(model="md-gan", discriminators=K, batch_size=N * K, image_size=16, nz=5, ngf=3)
    settings |= dict(ndf=4, nc=1, lr=3e-3, beta1=0.4, beta2=0.95, seed=3)
    return TrainConfig(**(settings | changes))


def small_gan(K: int, **changes: Any) -> GAN:
    return build_gan(small_config(K, **changes), CPU, "float64")


def batch(step: int, size: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    real_images = torch.rand(size, 1, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
    return real_images, torch.randn(size, 5, generator=random, dtype=torch.float64)


@pytest.mark.parametrize(("weighting", "d_steps"), [("mean", 1), ("sum", 1), ("mean", 2)])
def test_steps_are_those_of_a_plain_computation(weighting: str, d_steps: int) -> None:
    """Four steps of three discriminators, with a swap between the first two."""
    K = 3
    gan = small_gan(K, weighting=weighting, d_steps=d_steps)
    networks = gan.generator, *gan.discriminators.members
    generator, *members = ([p.detach().clone().requires_grad_() for p in each.parameters()] for each in networks)
    adam_of_generator, *adams = (Adam(weights, 3e-3, 0.4, 0.95) for weights in (generator, *members))
    for step in range(4):
        real_images, latents = batch(step, K * d_steps * N)
        partners = (2, 1, 0) if step == 1 else None
        result = md_gan_step(gan, real_images, latents, StepContext(step, partners=partners))

        if partners is not None:
            members, adams = [members[k] for k in partners], [adams[k] for k in partners]
        losses_of_generator = []
        for k in range(K):
            of_worker = slice(k * d_steps * N, (k + 1) * d_steps * N)
            for reals, z in zip(real_images[of_worker].split(N), latents[of_worker].split(N), strict=True):
                fakes = images_of(generator, z)
                real_loss = minus_log_sigmoid(judge(members[k], reals)).mean()
                fake_loss = s(judge(members[k], fakes.detach())).mean()
                adams[k].minimize(real_loss + fake_loss)
            assert result.real_losses[k].item() == pytest.approx(real_loss.item(), abs=1e-10)
            assert result.fake_losses[k].item() == pytest.approx(fake_loss.item(), abs=1e-10)
            losses_of_generator.append(minus_log_sigmoid(judge(members[k], fakes)).mean())
        loss = torch.stack(losses_of_generator).sum() / (K if weighting == "mean" else 1)
        adam_of_generator.minimize(loss)
        assert result.generator_loss.item() == pytest.approx(loss.item(), abs=1e-10)
        assert result.weights.tolist() == pytest.approx([1 / 3 if weighting == "mean" else 1] * K)
    for network, weights in zip(networks, (generator, *members), strict=True):
        for parameter, expected in zip(network.parameters(), weights, strict=True):
            torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-10)


def test_running_statistics_are_means_over_the_workers() -> None:
    gan = small_gan(2)
    single = copy.deepcopy(gan.generator)
    real_images, latents = batch(0, 2 * N)
    md_gan_step(gan, real_images, latents)
    expected = []
    for z in latents.split(N):
        generator = copy.deepcopy(single)
        generator(z)
        expected.append([b for b in generator.buffers() if b.is_floating_point()])
    for found, a, b in zip((b for b in gan.generator.buffers() if b.is_floating_point()), *expected, strict=True):
        torch.testing.assert_close(found, (a + b) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("K", "processes"), [(2, 1), (4, 1), (4, 2), (3, 3)])
def test_a_worker_sees_its_own_shard_and_each_image_once_in_an_epoch(K: int, processes: int) -> None:
    seen: list[set[int]] = [set() for _ in range(K)]
    own = K // processes
    for rank in range(processes):
        batches = Batches(numbered(50), 3 * own, 1, 7, CPU, rank=rank, world_size=processes, shards=K)
        assert batches.steps_per_epoch == 50 // (3 * K)
        for epoch in range(3):
            counts: Counter[int] = Counter()
            for step in range(batches.steps_per_epoch):
                parts = batches.at(epoch * batches.steps_per_epoch + step).chunk(own)
                for k, part in enumerate(parts, start=rank * own):
                    seen[k] |= set(indices(part))
                    counts.update(indices(part))
            assert set(counts.values()) == {1}
    assert sum(len(each) for each in seen) == len(set().union(*seen)), "disjoint"
    assert all(3 * (50 // (3 * K)) <= len(each) <= 50 // K for each in seen)


def test_shards_are_drawn_at_random_from_the_seed() -> None:
    def first(seed: int) -> list[int]:
        return indices(Batches(numbered(8), 8, 1, seed, CPU, shards=2).at(0)[:4])

    assert sorted(first(0)) != sorted(first(1))
    assert sorted(first(0)) not in ([0, 1, 2, 3], [4, 5, 6, 7])


def test_the_number_of_processes_makes_no_difference_to_the_inputs() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 16, 16), np.uint8)

    def inputs(batch_size: int, rank: int, processes: int) -> StepInputs:
        config = small_config(4, d_steps=2, batch_size=batch_size, penalty="gp", discriminator_norm="none")
        return StepInputs(config, images, Group(rank, processes), CPU, torch.float64)

    for step in (0, 1, 5):
        whole = inputs(8, 0, 1).at(step)
        shares = [inputs(4, rank, 2).at(step) for rank in range(2)]
        contexts = [each[2] for each in (whole, *shares)]
        mixings = [context.mixing for context in contexts if context.mixing is not None]
        reals, latents = [each[0] for each in (whole, *shares)], [each[1] for each in (whole, *shares)]
        for of_all, *of_ranks in (reals, latents, mixings):
            assert torch.equal(of_all, torch.cat(of_ranks))
        assert len({context.partners for context in contexts}) == 1


def test_swaps_come_before_the_first_step_of_an_epoch_and_never_before_the_run() -> None:
    images = np.zeros((30, 1, 16, 16), np.uint8)

    def due(every: int) -> dict[int, tuple[int, ...] | None]:
        inputs = StepInputs(small_config(5, batch_size=10, swap_every=every), images, Group(), CPU, torch.float64)
        assert inputs.steps_per_epoch == 3
        partners = {step: inputs.at(step)[2].partners for step in range(40)}
        return {step: each for step, each in partners.items() if each is not None}

    assert list(due(1)) == [*range(3, 40, 3)]
    assert list(due(2)) == [*range(6, 40, 6)]
    assert due(0) == {}
    assert len(set(due(1).values())) > 3, "drawn anew"
    assert due(1) == due(1)


@pytest.mark.parametrize("K", [1, 2, 5, 8])
def test_partners_are_pairs(K: int) -> None:
    for number in range(5):
        partners = swap_partners(K, stream(0, "swap", number))
        assert [partners[partners[k]] for k in range(K)] == [*range(K)]
        assert sum(partners[k] == k for k in range(K)) == K % 2


def test_a_swap_moves_parameters_vectors_and_moments_and_no_tensor() -> None:
    gan = small_gan(3, discriminator_norm="spectral")
    for step in range(2):
        md_gan_step(gan, *batch(step, 3 * N))

    def state(k: int) -> list[Tensor]:
        member = gan.discriminators.members[k]
        moments = [gan.discriminator_optimizer.state[p] for p in member.parameters()]
        tensors = [*member.state_dict().values(), *(m[name] for m in moments for name in ("exp_avg", "exp_avg_sq"))]
        return [tensor.clone() for tensor in tensors]

    before, parameters = [state(k) for k in range(3)], list(gan.discriminators.parameters())
    assert not torch.equal(before[0][-1], before[2][-1])
    swap_discriminators(gan, (2, 1, 0))
    for k, other in enumerate((2, 1, 0)):
        assert all(torch.equal(a, b) for a, b in zip(state(k), before[other], strict=True))
    assert all(a is b for a, b in zip(parameters, gan.discriminators.parameters(), strict=True))


def test_each_discriminator_is_diagnosed_on_its_own_batches() -> None:
    gan, (real_images, latents) = small_gan(2, d_steps=2), batch(0, 4 * N)
    found = diagnose(gan, real_images, latents, 2 * N)
    assert found["agreement"] is None
    for k, member in enumerate(gan.discriminators.members):
        signs, separations, norms = [], [], []
        of_worker = slice(2 * k * N, 2 * (k + 1) * N)
        for reals, z in zip(real_images[of_worker].split(N), latents[of_worker].split(N), strict=True):
            fakes = gan.generator(z).detach().requires_grad_()
            real, fake = member(reals), member(fakes)
            signs.append(real.sign().mean().item())
            separations.append((real[:, None] > fake[None]).double().mean().item())
            (gradient,) = torch.autograd.grad(functional.softplus(-fake).sum(), fakes)
            norms.append(gradient.flatten(1).norm(dim=1).mean().item())
        for name, values in (("real_signs", signs), ("separation", separations), ("gradient_norms", norms)):
            assert found[name][k] == pytest.approx(sum(values) / 2), name


@pytest.mark.parametrize(
    ("K", "processes", "batch_size", "message"),
    [
        (
            3,
            2,
            8,
            "discriminators = 3: must be a multiple of the number of processes, here 2; set discriminators = 4",
        ),
        (
            2,
            4,
            8,
            "discriminators = 2: must be a multiple of the number of processes, here 4; set discriminators = 4",
        ),
        (4, 2, 7, "batch_size = 7: each process has 2 of the 4 discriminators, .* multiple of 2, at least 4"),
        (4, 1, 4, "batch_size = 4: each process has 4 of the 4 discriminators, .* multiple of 4, at least 8"),
    ],
)
def test_what_cannot_be_divided_is_refused(K: int, processes: int, batch_size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        workers_of(small_config(K, batch_size=batch_size), Group(0, processes))


@pytest.fixture(scope="module")
def uninterrupted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("md-gan") / "run"
    return train(TrainConfig(**tiny_settings(pictures, out, model="md-gan"))).run


def test_a_run_logs_every_discriminator(uninterrupted: Path) -> None:
    for line in metrics(uninterrupted):
        assert line["weights"] == [0.5, 0.5]
        assert all(loss > 0 for name in ("real_losses", "fake_losses") for loss in line[name])
        assert line["agreement"] is None
        assert len(line["separation"]) == 2
        assert line["images_seen"] == 4 * line["step"]


@pytest.mark.parametrize("first", [1, 10, 11, 12])
def test_a_run_stopped_around_a_swap_ends_as_if_it_never_stopped(first: int, uninterrupted: Path, tiny: Tiny) -> None:
    """An epoch has 11 steps; the swap comes before the twelfth."""
    train(tiny(model="md-gan", max_steps=first))
    assert_same_run(uninterrupted, train(tiny(model="md-gan")).run)


def test_another_swap_is_another_run(uninterrupted: Path, tiny: Tiny) -> None:
    never = metrics(train(tiny(model="md-gan", swap_every=0)).run)
    assert [a == b for a, b in zip(metrics(uninterrupted), never, strict=True)].index(False) == 3  # steps 10 to 12


def test_another_batch_is_refused_when_a_run_is_resumed(tiny: Tiny) -> None:
    train(tiny(model="md-gan", max_steps=2))
    with pytest.raises(
        ConfigError, match=r"trained with 4 images per update, here are 6 \(1 processes, batch_size = 6"
    ):
        train(tiny(model="md-gan", batch_size=6))


def test_what_diverged_in_another_process_stops_this_one_too(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an MD-GAN each process has discriminators that no other process sees."""
    monkeypatch.setattr(Group, "all_gather", lambda _, mine: [mine, "discriminators"] if mine is None else [mine])
    with pytest.raises(TrainingDivergedError, match="step 2: a number in the state of the discriminators is not fin"):
        train(tiny(model="md-gan", max_steps=2))
