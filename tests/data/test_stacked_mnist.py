"""Stacked MNIST: which digits are stacked, that they are always the same, and that every command knows the set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3gan import TrainConfig, train
from d3gan.cli import main
from d3gan.config.datasets import POINT_SETS, SET_NAMES
from d3gan.data.load import load_images, load_labels
from d3gan.data.locate import resolve_dataset
from d3gan.data.published import catalog
from d3gan.data.published.catalog import STACKED_MNIST, dataset_names
from d3gan.data.published.commands import catalog_lines, fetch
from d3gan.data.published.verify import verify
from d3gan.data.stacked_mnist import draw_triples
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.real_images import ImageFinder, native_size
from tests.data.tiny_digits import COUNTS, TinyDigits, tiny_digits


@pytest.fixture(scope="module")
def digits() -> TinyDigits:
    return tiny_digits()


def test_the_config_knows_every_sets_name() -> None:
    assert sorted(SET_NAMES) == sorted((*dataset_names(), *POINT_SETS))
    assert TrainConfig(dataset="Stacked-MNIST").resolved_metrics == ("modes",)


@pytest.mark.parametrize("split", COUNTS)
def test_each_channel_is_a_digit_and_the_label_names_all(split: str, digits: TinyDigits, tmp_path: Path) -> None:
    digits.put(tmp_path)
    images = load_images(digits.stacked, split=split, image_size=28, data_dir=tmp_path).images
    labels = load_labels(digits.stacked, split=split, data_dir=tmp_path)
    assert images.shape == (digits.stacked.split(split).count, 3, 28, 28)
    digit_of = {
        image.tobytes(): label for image, label in zip(digits.images[split], digits.labels[split], strict=True)
    }
    for image, label in zip(images, labels, strict=True):
        red, green, blue = (digit_of[channel.tobytes()] for channel in image)
        assert label == 100 * red + 10 * green + blue
    assert len(set(labels.tolist())) > 1


def test_every_digit_can_be_in_every_channel() -> None:
    triples = draw_triples(STACKED_MNIST, "train")
    assert triples.shape == (128_000, 3)
    # Of 60,000 digits each is missing from a channel with a probability of exp(-128,000 / 60,000).
    for channel in triples.T:
        assert channel.min() >= 0
        assert channel.max() < 60_000
        missing = 60_000 - len(np.unique(channel))
        assert missing == pytest.approx(60_000 * np.exp(-128 / 60), rel=0.05)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(triples[:, one], triples[:, other])[0, 1]) < 5 / 128_000**0.5


def test_the_drawing_is_the_same_for_everybody() -> None:
    assert draw_triples(STACKED_MNIST, "train")[:2].tolist() == [[2885, 30239, 59032], [27768, 26999, 32341]]
    assert draw_triples(STACKED_MNIST, "test").shape == (26_000, 3)
    assert draw_triples(STACKED_MNIST, "test")[-1].tolist() == [7698, 9151, 855]


def test_sizes_and_splits_have_caches_of_their_own_with_the_same_drawing(
    digits: TinyDigits, tmp_path: Path, said: list[str]
) -> None:
    digits.put(tmp_path)
    first = load_images(digits.stacked, image_size=28, data_dir=tmp_path)
    twice = load_images(digits.stacked, image_size=56, data_dir=tmp_path)
    test = load_images(digits.stacked, split="test", image_size=28, data_dir=tmp_path)
    assert len({first.checksum, twice.checksum, test.checksum}) == 3
    assert len(list((tmp_path / "prepared").glob("tiny-stacked-*.npy"))) == 3
    # The middles of the squares are as bright at both sizes, so the same digits are stacked.
    assert np.corrcoef(first.images[:, :, ::2, ::2].ravel(), twice.images[:, :, ::4, ::4].ravel())[0, 1] > 0.9

    for path in [*tmp_path.glob("*.gz"), *(tmp_path / "prepared").glob("tiny-digits-*.npy")]:
        path.unlink()
    said.clear()
    again = load_images(digits.stacked, image_size=28, data_dir=tmp_path)
    assert again.checksum == first.checksum
    np.testing.assert_array_equal(again.images, first.images)
    assert [line.split(" from ")[0] for line in said] == ["tiny-stacked train: 40 images"]


def test_other_digits_are_another_set(digits: TinyDigits, tmp_path: Path) -> None:
    others = tiny_digits(1)
    digits.put(tmp_path / "one")
    others.put(tmp_path / "two")
    one = load_images(digits.stacked, data_dir=tmp_path / "one")
    two = load_images(others.stacked, data_dir=tmp_path / "two")
    assert one.checksum != two.checksum


def test_another_drawing_is_another_set(digits: TinyDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits.put(tmp_path)
    one = load_images(digits.stacked, data_dir=tmp_path)
    monkeypatch.setattr("d3gan.data.load.draw_triples", lambda *names: draw_triples(*names)[::-1].copy())
    two = load_images(digits.stacked, data_dir=tmp_path)
    assert one.checksum != two.checksum
    np.testing.assert_array_equal(two.images, one.images[::-1])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"channels": 1}, "nc = 1: stacked-mnist has three channels, one mnist image in each; use nc = 3"),
        ({"split": "extra"}, "split = extra: stacked-mnist has train, test"),
    ],
)
def test_a_bad_value_is_told(options: dict[str, Any], error: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=error):
        load_images("stacked-mnist", data_dir=tmp_path, **options)


def test_labels_of_what_has_none_are_refused(digits: TinyDigits, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a path; give a published set"):
        load_labels(pictures)
    with pytest.raises(ConfigError, match="split = extra: tiny-digits has train, test"):
        load_labels(digits.dataset, split="extra", data_dir=tmp_path)


def test_the_name_is_known_wherever_names_are(tmp_path: Path) -> None:
    assert resolve_dataset(" Stacked-MNIST") is STACKED_MNIST
    with pytest.raises(ConfigError, match="did you mean 'stacked-mnist'"):
        resolve_dataset("staked-mnist")
    assert native_size("stacked-mnist:test", "--images") == 28
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz").touch()
    (line,) = (line for line in catalog_lines(tmp_path) if line.startswith("stacked-mnist"))
    assert " ".join(line.split()).startswith("stacked-mnist train 128,000, test 26,000 3 x 28 x 28 from mnist ")
    assert line.endswith(f"{tmp_path / 'MNIST/raw'} (3 of 4 files missing)")


def test_fetch_and_verify_ask_for_what_it_is_made_from(digits: TinyDigits, tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(ExternalError, match="d3gan data fetch tiny-digits"):
        verify(digits.stacked, data_dir=tmp_path)
    digits.put(tmp_path)
    said.clear()
    assert fetch(digits.stacked, data_dir=tmp_path) == tmp_path
    verify(digits.stacked, data_dir=tmp_path)
    assert said.count("tiny-stacked: is made from tiny-digits") == 2
    assert "tiny-digits test: 60 images of 1 x 28 x 28, labels 0 to 9" in said


def test_a_run_trains_on_it_and_is_evaluated_against_its_splits(
    digits: TinyDigits, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalog, "STACKED_MNIST", digits.stacked)
    digits.put(tmp_path / "data")
    data = str(tmp_path / "data")
    config = tiny(dataset="tiny-stacked", data_dir=data, max_steps=2)
    assert train(config).run.is_dir()
    finder = ImageFinder("tiny-stacked", 16, 3, data)
    assert len(finder.open("train", "reference")) == 40
    for spec in ("test", "tiny-stacked:test"):
        images = finder.open(spec, "reference")
        assert images.description == "tiny-stacked test, 12 images, 16 x 16, colour"
        assert images.source()(0, 12).shape == (12, 3, 16, 16)
    # The command line reports the same refusal before it trains.
    words = ["train", "--dataset=tiny-stacked", f"--data-dir={data}", "--nc=1", f"--out={tmp_path / 'gray'}"]
    assert main([*words, "--image-size=16", "--device=cpu"]) == 2
    assert "nc = 1: tiny-stacked has three channels" in capsys.readouterr().err
