import numpy as np
import pytest
import torch

from d3gan.data.batches import Batches
from d3gan.errors import ConfigError

CPU = torch.device("cpu")


def numbered(count: int, channels: int = 1) -> np.ndarray:
    """Images whose pixels all hold their own index."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, channels, 2, 2)).copy()


def indices(batch: torch.Tensor) -> list[int]:
    return [round((value + 1) * 127.5) for value in batch[:, 0, 0, 0].tolist()]


def test_an_epoch_visits_every_image_once_but_for_the_incomplete_batch() -> None:
    batches = Batches(numbered(23), 5, 1, 0, CPU)
    assert batches.steps_per_epoch == 4
    for epoch in range(3):
        seen = [i for step in range(4) for i in indices(batches.at(4 * epoch + step))]
        assert len(set(seen)) == len(seen) == 20


def test_the_order_changes_with_epoch_and_seed_and_with_nothing_else() -> None:
    def epoch(number: int, seed: int) -> list[int]:
        batches = Batches(numbered(20), 5, 1, seed, CPU)
        return [i for step in range(4) for i in indices(batches.at(4 * number + step))]

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(1, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != list(range(20))


def test_a_batch_is_a_function_of_its_step() -> None:
    batches = Batches(numbered(20), 5, 1, 3, CPU)
    forwards = [batches.at(step) for step in range(12)]
    backwards = [batches.at(step) for step in reversed(range(12))]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_pixels_map_to_minus_one_to_one() -> None:
    images = np.zeros((2, 1, 1, 2), np.uint8)
    images[:, 0, 0, 1] = 255
    assert Batches(images, 2, 1, 0, CPU).at(0).flatten().tolist() == [-1.0, 1.0, -1.0, 1.0]
    assert Batches(images, 2, 1, 0, CPU, torch.float64).at(0).dtype == torch.float64


def test_grey_images_become_equal_channels() -> None:
    batch = Batches(numbered(8), 4, 3, 0, CPU).at(0)
    assert batch.shape == (4, 3, 2, 2)
    assert torch.equal(batch[:, 0], batch[:, 2])


def test_colour_channels_are_kept_apart() -> None:
    images = numbered(6, 3)
    images[:, 1] = 200
    assert (Batches(images, 6, 3, 0, CPU).at(0)[:, 1] > 0.5).all()


def test_images_kept_on_the_device_give_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), np.uint8)
    mapped = Batches(images, 6, 3, 5, CPU)
    monkeypatch.setattr(Batches, "_fits_on_device", lambda _: True)
    resident = Batches(images, 6, 3, 5, CPU)
    for step in range(7):
        assert torch.equal(mapped.at(step), resident.at(step))


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size = 9: must be at most 8"):
        Batches(numbered(8), 9, 1, 0, CPU)


def test_processes_share_out_one_shuffled_order_and_no_image_goes_to_two() -> None:
    def epoch_of(rank: int, epoch: int, size: int, processes: int) -> list[list[int]]:
        batches = Batches(numbered(23), size, 1, 5, CPU, rank=rank, world_size=processes)
        assert batches.steps_per_epoch == 3
        return [indices(batches.at(3 * epoch + step)) for step in range(3)]

    for epoch in (0, 1):
        shares = [epoch_of(rank, epoch, 2, 3) for rank in range(3)]
        together = [[image for share in shares for image in share[step]] for step in range(3)]
        assert together == epoch_of(0, epoch, 6, 1)
        assert len({image for step in together for image in step}) == 18
    assert epoch_of(0, 0, 2, 3) != epoch_of(0, 1, 2, 3)


def test_more_images_than_there_are_name_the_processes() -> None:
    with pytest.raises(ConfigError, match="batch_size = 4, 12 with all 3 processes: must be at most 8"):
        Batches(numbered(8), 4, 1, 0, CPU, rank=1, world_size=3)
