"""The classifier that modes of stacked MNIST are counted with: right, trained once, the same every time."""

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from d3gan.data.load import load_images, load_labels
from d3gan.data.published.commands import fetch
from d3gan.errors import ExternalError
from d3gan.evaluation import digits
from d3gan.evaluation.digits import DigitClassifier, digit_classifier
from tests.data.tiny_digits import TinyDigits, tiny_digits


def use(tiny: TinyDigits, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TinyDigits:
    """Trains classifiers on a tiny set in place of MNIST, for as long as it needs."""
    tiny.put(folder)
    for name, value in dict(MNIST=tiny.dataset, BATCH_SIZE=20, EPOCHS=3).items():
        monkeypatch.setattr(digits, name, value)
    return tiny


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyDigits:
    return use(tiny_digits(), tmp_path, monkeypatch)


def images_of(tiny: TinyDigits, folder: Path, split: str = "test", size: int = 16) -> Tensor:
    return torch.tensor(load_images(tiny.dataset, split=split, image_size=size, data_dir=folder).images)


def weights(classifier: DigitClassifier) -> dict[str, Tensor]:
    return dict(classifier._network.state_dict())


def test_it_learns_the_digits_and_is_trained_once(tiny: TinyDigits, tmp_path: Path, said: list[str]) -> None:
    first = digit_classifier(16, tmp_path)
    assert first.accuracy > 0.98
    trained = [line for line in said if line.startswith("digit classifier (16 x 16): trained in ")]
    assert len(trained) == 1
    assert trained[0].endswith(f" s, {first.accuracy:.2%} of MNIST's test images classified correctly")
    images = images_of(tiny, tmp_path)
    right = first.classify(images).numpy() == tiny.labels["test"]
    assert right.mean() == first.accuracy

    for path in [*tmp_path.glob("*.gz"), *(tmp_path / "prepared").glob("*.npy")]:
        path.unlink()
    said.clear()
    second = digit_classifier(16, str(tmp_path), "cpu")
    assert said == []
    assert second.accuracy == first.accuracy
    assert torch.equal(second.classify(images), first.classify(images))


def test_training_depends_on_nothing_and_leaves_random_numbers_alone(
    tiny: TinyDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one caller with gradients, and of an evaluation without, with more threads."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = digit_classifier(16, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    use(tiny, tmp_path / "other", monkeypatch)
    torch.set_num_threads(2)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        second = digit_classifier(16, tmp_path / "other")
    assert torch.get_num_threads() == 2
    assert len(weights(first)) == 20
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name


def test_stacked_images_have_the_classes_of_their_channels(tiny: TinyDigits, tmp_path: Path) -> None:
    classifier = digit_classifier(16, tmp_path)
    gray = images_of(tiny, tmp_path, "train")
    digit = classifier.classify(gray)
    assert digit.dtype == torch.int64
    assert digit.shape == (200,)
    stacked = torch.cat([gray[:60], gray[60:120], gray[120:180]], dim=1)
    expected = [int(f"{digit[i]}{digit[60 + i]}{digit[120 + i]}") for i in range(60)]
    assert classifier.classify(stacked).tolist() == expected
    assert classifier.classify(stacked[:0]).shape == (0,)


def test_a_class_does_not_depend_on_the_other_images(
    tiny: TinyDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, whose classes are close calls; the logits are the same bits."""
    classifier = digit_classifier(16, tmp_path)
    seen: list[Tensor] = []
    network = classifier._network
    network.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.clone()))
    noise = torch.randint(256, (730, 1, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    classes = classifier.classify(noise)
    together, lengths = torch.cat(seen), {len(part) for part in seen}
    assert lengths == {digits.CLASSIFY_SIZE}
    for i in (0, 499, 500, 729):
        seen.clear()
        assert classifier.classify(noise[i : i + 1]).item() == classes[i]
        assert torch.equal(seen[0][0], together[i])


def test_larger_images_are_resized_to_32_pixels(tiny: TinyDigits, tmp_path: Path, said: list[str]) -> None:
    small, large = digit_classifier(16, tmp_path), digit_classifier(64, tmp_path)
    assert sorted(path.name[:12] for path in (tmp_path / "classifiers").glob("*.safetensors")) == [
        "digits-16x16",
        "digits-32x32",
    ]
    for classifier, size in ((small, 28), (large, 32), (large, 64), (large, 128)):
        classes = classifier.classify(images_of(tiny, tmp_path, size=size))
        assert (classes.numpy() == tiny.labels["test"]).mean() > 0.98, size
    said.clear()
    digit_classifier(128, tmp_path)
    digit_classifier(28, tmp_path)
    assert said == []


def test_another_recipe_and_other_images_are_trained_again(
    tiny: TinyDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digit_classifier(16, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(digits, "RECIPE", digits.RECIPE + 1)
        digit_classifier(16, tmp_path)
    use(tiny_digits(1), tmp_path, monkeypatch)
    digit_classifier(16, tmp_path)
    assert len(list((tmp_path / "classifiers").glob("digits-16x16-*.safetensors"))) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:-9] + bytes([data[-9] ^ 64]) + data[-8:],
        lambda data: data.replace(b"accuracy", b"accurate"),
        lambda data: data.replace(b"d3gan", b"d4gan"),
    ],
    ids=["cut", "empty", "a bit", "no accuracy", "another program's"],
)
def test_a_damaged_file_is_made_again(damage: Any, tiny: TinyDigits, tmp_path: Path, said: list[str]) -> None:
    first = digit_classifier(16, tmp_path)
    (path,) = (tmp_path / "classifiers").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    said.clear()
    again = digit_classifier(16, tmp_path)
    assert f"{path}: is damaged" in said[0]
    assert path.read_bytes() == whole
    for name, value in weights(first).items():
        assert torch.equal(value, weights(again)[name]), name


def test_a_classifier_that_learnt_too_little_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(tiny_digits(learnable=False), tmp_path, monkeypatch)
    with pytest.raises(ExternalError, match=r"\(16 x 16\): \d+\.\d\d% of MNIST's .*, at least 98% are needed"):
        digit_classifier(16, tmp_path)
    assert not list((tmp_path / "classifiers").glob("*.safetensors"))


def test_of_two_that_start_together_one_trains(
    tiny: TinyDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    training, second_waits = threading.Event(), threading.Event()
    train = digits._train

    def slow(*arguments: Any) -> tuple[nn.Module, float]:
        training.set()
        assert second_waits.wait(30)
        return train(*arguments)

    def notice(record: logging.LogRecord) -> bool:
        if "waiting" in record.getMessage():
            second_waits.set()
        return True

    monkeypatch.setattr(digits, "_train", slow)
    found: list[DigitClassifier] = []
    first = threading.Thread(target=lambda: found.append(digit_classifier(16, tmp_path)))
    logger = logging.getLogger("d3gan")
    logger.addFilter(notice)
    try:
        first.start()
        assert training.wait(30)
        found.append(digit_classifier(16, tmp_path))
    finally:
        first.join()
        logger.removeFilter(notice)
    assert len([line for line in said if "trained in" in line]) == 1
    assert found[0].accuracy == found[1].accuracy
    for name, value in weights(found[0]).items():
        assert torch.equal(value, weights(found[1])[name]), name


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 16, 16),
        torch.zeros(2, 2, 16, 16, dtype=torch.uint8),
        torch.zeros(2, 16, 16, dtype=torch.uint8),
    ],
    ids=["floats", "two channels", "no channels"],
)
def test_other_images_are_refused(images: Tensor, tiny: TinyDigits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 1 or 3, S, S\)"):
        digit_classifier(16, tmp_path).classify(images)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("size", "accuracy"), [(32, 0.99), (16, 0.985)])
def test_real_digits_and_real_stacks_are_recognised(size: int, accuracy: float) -> None:
    """A perfect generator of stacked MNIST shows all of its modes, with nearly the right frequencies."""
    try:
        fetch("mnist")
    except ExternalError as error:
        pytest.skip(f"MNIST cannot be had here: {error}")
    classifier = digit_classifier(size)
    assert classifier.accuracy >= accuracy
    stacked = torch.tensor(load_images("stacked-mnist", split="test", image_size=size).images)
    labels = load_labels("stacked-mnist", split="test")
    classes = classifier.classify(stacked).numpy()
    # An image is right if its three digits are.
    assert (classes == labels).mean() == pytest.approx(classifier.accuracy**3, abs=0.005)

    # A class of probability p is missing from N images with a probability of (1 - p)**N: here 1e-6 classes are.
    shares = np.bincount(load_labels("mnist", split="test"), minlength=10) / 10_000
    probabilities = np.multiply.outer(np.multiply.outer(shares, shares), shares).ravel()
    assert ((1 - probabilities) ** 26_000).sum() < 1e-4
    counts = np.bincount(classes, minlength=1000)
    assert (counts > 0).sum() == 1000
    # Sampling alone makes the divergence (1000 - 1) / (2 * 26,000) = 0.019 on average; wrong labels add little.
    seen = counts / counts.sum()
    assert 0.015 < (seen * np.log(seen / probabilities)).sum() < 0.025
