import torch

from d3gan import TrainConfig
from d3gan.randomness import draw_labels, draw_latents, stream
from d3gan.training.inputs import latents_of_step


def test_streams_depend_on_seed_purpose_and_place_alone() -> None:
    def first(seed: int, purpose: str, *place: int) -> int:
        return int(torch.randint(2**62, (), generator=stream(seed, purpose, *place)))

    draws = [first(s, p, *place) for s in (0, 1) for p in ("a", "b") for place in ((), (0,), (1,), (0, 1), (1, 0))]
    assert len(set(draws)) == len(draws)
    assert draws[7] == first(0, "b", 1)
    assert first(2**63 - 1, "a") >= 0


def test_latents_are_standard_normal() -> None:
    latents = draw_latents(2000, 50, 0, "latents", 3, device="cpu")
    assert latents.shape == (2000, 50)
    assert abs(latents.mean().item()) < 0.01
    assert abs(latents.std().item() - 1) < 0.01
    assert not torch.equal(latents, draw_latents(2000, 50, 0, "latents", 4, device="cpu"))


def test_every_batch_of_a_step_has_latents_of_its_own_whoever_processes_it() -> None:
    one = TrainConfig(batch_size=3, nz=5, grad_accum_steps=4)
    whole = latents_of_step(one, 7, 0, torch.device("cpu"))
    two = TrainConfig(batch_size=3, nz=5, grad_accum_steps=2)
    shares = torch.cat([latents_of_step(two, 7, rank, torch.device("cpu")) for rank in range(2)])
    assert torch.equal(whole, shares)
    assert len({part.numpy().tobytes() for part in whole.chunk(4)}) == 4
    assert not torch.equal(whole, latents_of_step(one, 8, 0, torch.device("cpu")))
    assert torch.equal(whole[:3], draw_latents(3, 5, 0, "latents", 7, device="cpu")), "as a single process always did"


def test_labels_are_those_of_images_drawn_at_random() -> None:
    labels = draw_labels(4000, (0, 30, 0, 10), 3, "test", device="cpu")
    counts = torch.bincount(labels, minlength=4).tolist()
    assert labels.dtype == torch.int64
    assert counts[0] == counts[2] == 0, "of classes without images there are none"
    assert abs(counts[3] - 1000) < 150
    assert set(draw_labels(200, (1, 1), 3, "test", device="cpu").tolist()) == {0, 1}
    assert torch.equal(labels, draw_labels(4000, (0, 30, 0, 10), 3, "test", device="cpu"))
