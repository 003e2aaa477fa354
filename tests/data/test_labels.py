"""Labels of images: class folders, dataset.json, published sets; what is damaged or lacks some is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3gan.data.load import load_images
from d3gan.data.published.catalog import DATASETS
from d3gan.errors import ConfigError, ExternalError
from tests.data.test_folders_and_zips import make_folder, make_zip, plain
from tests.data.tiny_digits import TinyDigits, tiny_digits

RED, BLUE = plain("red"), plain("blue")
FILES = {"b/1.png": RED, "a/2.png": BLUE, "a/deep/er/3.png": BLUE, "c/4.png": RED}
LISTED = {"0/1.png": RED, "0/2.png": BLUE, "3.png": RED}


def listed(labels: object, **more: object) -> dict[str, bytes]:
    return LISTED | {"dataset.json": json.dumps({"labels": labels} | more).encode()}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def load(path: Path, data_dir: Path) -> Any:
    return load_images(path, image_size=16, data_dir=data_dir, labels=True)


@pytest.mark.parametrize("around", ["", "all/of/it/"])
def test_class_folders(around: str, tmp_path: Path, data_dir: Path, said: list[str]) -> None:
    files = {around + name: data for name, data in FILES.items()}
    for path in (make_folder(tmp_path / "set", files), make_zip(tmp_path / "set.zip", files)):
        said.clear()
        found = load(path, data_dir)
        assert found.class_names == ("a", "b", "c")
        assert found.labels.tolist() == [0, 0, 1, 2]
        assert found.labels.dtype == np.int64
        assert found.class_counts == (2, 1, 1)
        # Blue images are of class a alone.
        assert [int(image[2, 8, 8]) for image in found.images] == [255, 255, 0, 0]
        said_of_classes = [line for line in said if "classes" in line]
        if path.suffix != ".zip":
            assert said_of_classes == [
                f"{path}: 3 classes by folder: a (2), b (1), c (1); deeper folders belong to their class"
            ]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_dataset_json_comes_before_folders(form: str, tmp_path: Path, data_dir: Path, said: list[str]) -> None:
    files = listed([["0/1.png", 4], ["3.png", 0], ["0/2.png", 1], ["gone.png", 2]])
    path = make_folder(tmp_path / "set", files) if form == "folder" else make_zip(tmp_path / "set.zip", files)
    found = load(path, data_dir)
    assert found.labels.tolist() == [4, 1, 0]
    assert found.class_names == ("0", "1", "2", "3", "4")
    assert found.class_counts == (1, 1, 0, 0, 1)
    assert any(line.endswith("4 (1); 1 of its entries name no image here") for line in said)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (None, 'dataset.json: holds no labels, expected {"labels": .*or remove the file to take class folders'),
        ({"0/1.png": 1}, "dataset.json: holds no labels"),
        ([["0/1.png", 1], ["3.png", 0]], "1 of 3 images have no label in it, such as 0/2.png; add them"),
        ([["0/1.png", 1], ["3.png"]], r'entry 1 is \["3.png"\], expected \[path, class index\]'),
        ([["0/1.png", [0, 1, 0]]], r"the label of 0/1.png is \[0, 1, 0\], expected a class index, a whole number"),
        ([["0/1.png", 1.0]], "the label of 0/1.png is 1.0, expected a class index"),
        ([["0/1.png", True]], "the label of 0/1.png is true, expected"),
        ([["0/1.png", "cat"]], 'the label of 0/1.png is "cat", expected'),
        ([["0/1.png", -1]], "the label of 0/1.png is -1, expected"),
        ([["0/1.png", 10**9]], "the label of 0/1.png is 1000000000, expected .* from 0 to 99999"),
        ([["0/1.png", 1], ["0/1.png", 2]], "0/1.png has two labels, 1 and 2"),
    ],
)
def test_what_is_wrong_in_dataset_json_is_named(labels: object, error: str, tmp_path: Path, data_dir: Path) -> None:
    for path in (make_folder(tmp_path / "set", listed(labels)), make_zip(tmp_path / "set.zip", listed(labels))):
        with pytest.raises(ExternalError, match=error) as caught:
            load(path, data_dir)
        assert "\n" not in str(caught.value)
        # Without labels nobody reads it.
        assert load_images(path, image_size=16, data_dir=data_dir).labels is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[1, 2]"])
def test_a_damaged_dataset_json_is_named(damage: bytes, tmp_path: Path, data_dir: Path) -> None:
    path = make_folder(tmp_path / "set", LISTED | {"dataset.json": damage})
    with pytest.raises(ExternalError, match=r"dataset\.json: (cannot be read as JSON|holds no labels)"):
        load(path, data_dir)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"1.png": RED, "2.png": RED}, "have no classes: there is neither dataset.json nor a folder for each class"),
        ({"a/1.png": RED, "a/2.png": RED}, "have no classes"),
        ({"a/1.png": RED, "b/2.png": RED, "3.png": RED}, "3.png is in no class folder, and other images are; move"),
        ({"x/a/1.png": RED, "x/b/2.png": RED, "x/3.png": RED}, "x/3.png is in no class folder"),
        (listed([["0/1.png", 1], ["3.png", 1], ["0/2.png", 1]]), "all images are of one class"),
    ],
)
def test_images_without_classes_are_refused(
    files: dict[str, bytes], error: str, tmp_path: Path, data_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=error):
        load(make_folder(tmp_path / "set", files), data_dir)


def test_labels_are_prepared_once_and_part_of_the_identity_only_where_they_are_used(
    tmp_path: Path, data_dir: Path, said: list[str]
) -> None:
    path = make_folder(tmp_path / "set", listed([["0/1.png", 0], ["3.png", 1], ["0/2.png", 1]]))
    unlabelled, first = load_images(path, image_size=16, data_dir=data_dir), load(path, data_dir)
    assert unlabelled.identity == unlabelled.checksum == first.checksum != first.identity
    said.clear()
    again = load(path, data_dir)
    assert again.identity == first.identity
    assert not any("classes" in line for line in said), "from the cache"
    (cache,) = (data_dir / "prepared").glob("set-all-labels-*.npz")
    cache.write_bytes(cache.read_bytes()[:100])
    assert load(path, data_dir).labels.tolist() == first.labels.tolist()
    assert any(f"{cache}: is damaged" in line for line in said)
    # Other labels of the same images are other data.
    make_folder(path, listed([["0/1.png", 1], ["3.png", 1], ["0/2.png", 0]]))
    other = load(path, data_dir)
    assert other.labels.tolist() == [1, 0, 1]
    assert other.checksum == first.checksum
    assert other.identity != first.identity


def test_published_labels_stay_when_the_official_files_are_gone(tmp_path: Path) -> None:
    digits: TinyDigits = tiny_digits()
    digits.put(tmp_path)
    first = load_images(digits.dataset, split="test", image_size=16, data_dir=tmp_path, labels=True)
    assert first.labels is not None
    assert first.labels.tolist() == digits.labels["test"].tolist()
    assert first.class_names == tuple("0123456789")
    for name in digits.files:
        (tmp_path / name).unlink()
    again = load_images(digits.dataset, split="test", image_size=16, data_dir=tmp_path, labels=True)
    assert again.identity == first.identity


def test_stacked_digits_are_a_thousand_classes(tmp_path: Path) -> None:
    digits = tiny_digits()
    digits.put(tmp_path)
    found = load_images(digits.stacked, image_size=16, data_dir=tmp_path, labels=True)
    assert (len(found.class_names), found.class_names[7], len(found.class_counts)) == (1000, "007", 1000)


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split = unlabeled: stl10 has no labels for it"):
        load_images("stl10", split="unlabeled", data_dir=tmp_path, labels=True)


def test_every_published_set_has_as_many_names_as_classes() -> None:
    for dataset in DATASETS:
        assert len(set(dataset.class_names)) in (0, dataset.classes), dataset.name
