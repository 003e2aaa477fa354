"""Real images and their statistics: which ones, how they are cached, and files of other programs."""

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.feature_statistics import (
    MAX_SAMPLED_FEATURES,
    collect_statistics,
    evaluation_order,
    gray_to_color,
)
from d3gan.evaluation.real_images import ImageFinder, native_size
from d3gan.evaluation.reference import Reference, find_reference, read_reference, write_reference


class Pixels(Extractor):
    """Four features that show what images came in: mean and spread of the left and of the right half."""

    feature_size, classes = 4, 3

    def __init__(self, name: str = "pixels", version: int = 1):
        super().__init__(name, f"{name} {version}", torch.device("cpu"))
        self.batch_size = 8
        self.seen: list[torch.Tensor] = []

    def compute(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen.append(images)
        halves = [half.float().flatten(1) for half in images.chunk(2, dim=3)]
        features = torch.stack([s for half in halves for s in (half.mean(dim=1), half.std(dim=1))], dim=1)
        return features, features[:, :3] / 50


def finder(data: Path, dataset: str = "", **changes: Any) -> ImageFinder:
    settings: dict[str, Any] = dict(image_size=16, channels=3, data_dir=str(data))
    return ImageFinder(dataset=dataset, **(settings | changes))


@pytest.fixture
def reference(pictures: Path, tmp_path: Path) -> Reference:
    reference = find_reference(str(pictures), Pixels(), Group(), finder(tmp_path))
    assert reference is not None
    return reference


def test_statistics_are_those_of_every_image_as_it_is(pictures: Path, reference: Reference) -> None:
    rows = []
    for path in sorted(pictures.glob("*.png")):
        pixels = np.asarray(Image.open(path), dtype=np.float64)
        rows.append(
            [f(half) for half in (pixels[:, :8], pixels[:, 8:]) for f in (np.mean, lambda x: np.std(x, ddof=1))]
        )
    assert reference.count == 44
    np.testing.assert_allclose(reference.gaussian.mean.numpy(), np.mean(rows, axis=0), rtol=1e-6)
    np.testing.assert_allclose(reference.gaussian.covariance.numpy(), np.cov(np.array(rows).T), rtol=1e-4)
    assert reference.sampled_features is not None
    assert len(reference.sampled_features) == 44


def test_grey_images_become_three_equal_channels(pictures: Path, tmp_path: Path) -> None:
    extractor = Pixels()
    find_reference(str(pictures), extractor, Group(), finder(tmp_path, channels=1))
    for images in extractor.seen:
        assert images.shape[1:] == (3, 16, 16)
        assert torch.equal(images[:, 0], images[:, 2])
    assert torch.equal(gray_to_color(torch.ones(2, 3, 4, 4)), torch.ones(2, 3, 4, 4))


def test_statistics_are_computed_once_for_each_extractor_and_size(
    pictures: Path, tmp_path: Path, said: list[str]
) -> None:
    where = finder(tmp_path)
    find_reference(str(pictures), Pixels(), Group(), where)
    cases: list[tuple[Pixels, dict[str, Any], bool]] = [
        (Pixels(), {}, False),
        (Pixels("others"), {}, True),
        (Pixels(version=2), {}, True),
        (Pixels(), {"image_size": 8}, True),
        (Pixels(), {"channels": 1}, True),
        (Pixels(), {}, False),
    ]
    for extractor, changes, computed in cases:
        said.clear()
        reference = find_reference(str(pictures), extractor, Group(), finder(tmp_path, **changes))
        assert reference is not None
        assert any("computing features" in line for line in said) == computed, (extractor.name, changes)
        assert bool(extractor.seen) == computed


def test_two_runs_that_start_together_compute_it_once(pictures: Path, tmp_path: Path, said: list[str]) -> None:
    computing, second_waits = threading.Event(), threading.Event()

    class Slow(Pixels):
        def compute(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            computing.set()
            assert second_waits.wait(30)
            return super().compute(images)

    first, second = Slow(), Pixels()
    references: list[Reference | None] = []
    where = finder(tmp_path)
    run = threading.Thread(target=lambda: references.append(find_reference(str(pictures), first, Group(), where)))
    run.start()
    assert computing.wait(30)

    def notice(record: logging.LogRecord) -> bool:
        if "waiting" in record.getMessage():
            second_waits.set()
        return True

    logger = logging.getLogger("d3gan")
    logger.addFilter(notice)
    references.append(find_reference(str(pictures), second, Group(), where))
    logger.removeFilter(notice)
    run.join()
    assert first.seen
    assert not second.seen
    assert len([line for line in said if "another process is computing their features; waiting" in line]) == 1
    ours, theirs = references
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours.gaussian.covariance, theirs.gaussian.covariance)


def test_a_damaged_cache_is_reported_and_made_again(
    pictures: Path, tmp_path: Path, reference: Reference, said: list[str]
) -> None:
    (path,) = (tmp_path / "references").glob("*.npz")
    whole = path.read_bytes()
    for damage in (b"", whole[:200], b"x" * 500):
        path.write_bytes(damage)
        said.clear()
        rebuilt = find_reference(str(pictures), Pixels(), Group(), finder(tmp_path))
        assert rebuilt is not None
        assert torch.equal(rebuilt.gaussian.covariance, reference.gaussian.covariance)
        assert any("computing it again" in line for line in said)
    assert path.read_bytes() == whole


def test_what_is_written_is_read_and_is_what_others_read(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    write_reference(reference, path)
    read = read_reference(path, Pixels())
    assert read.name == "mine"
    assert (read.count, read.description) == (reference.count, reference.description)
    assert torch.equal(read.gaussian.mean, reference.gaussian.mean)
    assert read.sampled_features is not None
    with np.load(path, allow_pickle=False) as file:
        assert file["mu"].shape == (4,)
        assert file["sigma"].shape == (4, 4)
        assert file["sigma"].dtype == np.float64


def test_a_file_of_another_program_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cifar.npz"
    np.savez(path, mu=np.zeros(4, np.float32), sigma=np.eye(4))
    read = read_reference(path, Pixels())
    assert (read.name, read.count, read.sampled_features) == ("cifar", None, None)
    assert read.gaussian.mean.dtype == torch.float64


def test_files_that_do_not_fit_get_one_line(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    write_reference(reference, path)
    with pytest.raises(ConfigError, match="was made with pixels 1, but the features here are others 1"):
        read_reference(path, Pixels("others"))
    for arrays, kind, words in [
        ({"mu": np.zeros(5), "sigma": np.eye(5)}, ConfigError, "has 5 features, pixels gives 4"),
        ({"mu": np.zeros(4)}, ExternalError, "sigma"),
        ({"mu": np.zeros(4), "sigma": np.eye(3)}, ExternalError, "not finite numbers of shapes"),
        ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, ExternalError, "not finite numbers"),
        ({"mu": np.array(["a"] * 4), "sigma": np.eye(4)}, ExternalError, "no usable statistics"),
        ({"mu": np.array([{}] * 4, dtype=object), "sigma": np.eye(4)}, ExternalError, "Python objects"),
        ({"mu": np.float64(1), "sigma": np.eye(4)}, ExternalError, "no usable statistics"),
    ]:
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(kind, match=words) as caught:
            read_reference(path, Pixels())
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        read_reference(tmp_path / "none.npz", Pixels())


def test_names_of_images(pictures: Path, tmp_path: Path) -> None:
    folder = finder(tmp_path, str(pictures))
    assert folder.open("train", "--reference").name == "all"
    assert folder.open(str(pictures), "--reference").name == pictures.name
    for spec, words in [("test", "has no splits"), ("tset", "no such images"), ("cifar10", "no such images")]:
        with pytest.raises(ConfigError, match=words):
            folder.open(spec, "--reference")
    with pytest.raises(ConfigError, match="the run's images, gone, are not there"):
        finder(tmp_path, "gone").open("train", "--reference")
    with pytest.raises(ConfigError, match="mnist has train, test"):
        finder(tmp_path).open("mnist:validation", "--reference")
    with pytest.raises(ConfigError, match="split = unlabeled: mnist has"):
        finder(tmp_path, "mnist").open("unlabeled", "--reference")


def test_sizes_of_images(pictures: Path, tmp_path: Path) -> None:
    assert native_size(str(pictures), "--images") == 16
    assert native_size("cifar10:test", "--images") == 32
    Image.new("RGB", (30, 20)).save(tmp_path / "wide.png")
    assert native_size(str(tmp_path), "--images") == 20
    with pytest.raises(ConfigError, match="--images nowhere"):
        native_size("nowhere", "--images")


def test_a_large_set_keeps_some_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d3gan.evaluation.feature_statistics.MAX_SAMPLED_FEATURES", 30)
    assert MAX_SAMPLED_FEATURES == 10_000

    def source(start: int, stop: int) -> torch.Tensor:
        return torch.arange(start, stop).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)

    statistics = collect_statistics(source, 250, Pixels(), Group(), score=False)
    assert statistics is not None
    assert statistics.moments.count == 250
    sampled = statistics.sampled_features[:, 0].long().tolist()
    assert sampled == evaluation_order(250)[:30].sort().values.tolist()
    assert max(sampled) > 200


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("[1]", "another program's"),
        ("5", "another program's"),
        ('"x"', "another program's"),
        ("[" * 50_000, "no usable statistics"),
        ("{", "no usable statistics"),
        ('{"count": "abc"}', "another program's"),
        ('{"count": -1}', "another program's"),
        ('{"description": 5}', "another program's"),
        ('{"extractor": ["x"]}', "another program's"),
    ],
)
def test_an_entry_of_ours_that_is_none_is_told(entry: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4), d3gan=np.array(entry))
    with pytest.raises(ExternalError, match=words) as caught:
        read_reference(path, Pixels())
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("sigma", "words"),
    [
        (np.eye(4, dtype=np.float16), "sigma is float16"),
        (np.diag([1.0, 1, 1, -1]), "negative eigenvalue"),
        (np.triu(np.ones((4, 4))), "not symmetric"),
        (np.eye(4, dtype=complex), "not numbers"),
    ],
)
def test_a_sigma_that_is_no_covariance_is_told_with_the_file(sigma: Any, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mu=np.zeros(4), sigma=sigma)
    with pytest.raises(ExternalError, match=rf"x\.npz: holds no usable statistics.*{words}"):
        read_reference(tmp_path / "x.npz", Pixels())


def test_a_cache_with_any_damage_is_computed_again(pictures: Path, tmp_path: Path, said: list[str]) -> None:
    reference = find_reference(str(pictures), Pixels(), Group(), finder(tmp_path))
    assert reference is not None
    (path,) = (tmp_path / "references").glob("*.npz")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [6, whole.index(b"PK\1\2") + 8, *rng.integers(0, len(whole), 12)]  # encryption bits, then anywhere
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(bytes(damaged))
        again = find_reference(str(pictures), Pixels(), Group(), finder(tmp_path))
        assert again is not None
        assert torch.equal(again.gaussian.covariance, reference.gaussian.covariance)


def test_images_in_an_npz_are_images(pictures: Path, tmp_path: Path, said: list[str]) -> None:
    images = finder(tmp_path).open(str(pictures), "--images").image_set.images
    path = tmp_path / "samples.npz"
    np.savez_compressed(path, images.transpose(0, 2, 3, 1), latents=np.zeros((len(images), 3)))
    assert native_size(str(path), "--images") == 16
    np.testing.assert_array_equal(finder(tmp_path).open(str(path), "--images").image_set.images, images)
    reference = find_reference(str(path), Pixels(), Group(), finder(tmp_path))
    expected = find_reference(str(pictures), Pixels(), Group(), finder(tmp_path))
    assert reference is not None
    assert expected is not None
    assert reference.name == "samples"
    assert torch.equal(reference.gaussian.covariance, expected.gaussian.covariance)
    for wrong in (np.zeros((5, 4), np.uint8), np.zeros((5, 4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)):
        np.savez(path, wrong)
        with pytest.raises(ExternalError, match=r"samples\.npz: holds no images, arr_0"):
            native_size(str(path), "--images")


def test_images_of_several_sizes_get_the_usual_one_and_a_word(tmp_path: Path, said: list[str]) -> None:
    for i in range(5):
        Image.new("RGB", (32, 40)).save(tmp_path / f"{i}.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "0-pixel.png")
    assert native_size(str(tmp_path), "--images") == 32
    assert (
        "its images differ in size (5 of 32, 1 of 1 pixels on the shorter side); all are resized to 32 x 32"
        in said[0]
    )
