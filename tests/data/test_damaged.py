"""Damaged files among the images of a folder or zip: all named at once, or left out as if they were not there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d3gan import TrainConfig, train
from d3gan.cli import main
from d3gan.data.load import ImageSet, load_images
from d3gan.errors import ConfigError, ExternalError
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from tests.conftest import tiny_settings
from tests.data.test_folders_and_zips import make_folder, make_zip, plain

GOOD = {f"{kind}/{i}.png": plain(colour) for kind, colour in (("cat", "red"), ("dog", "blue")) for i in range(6)}
DAMAGED = {"cat/3x.png": b"", "dog/0x.png": plain("green")[:-40], "dog/9.jpg": b"no picture"}
MAKERS = pytest.mark.parametrize("make", [make_folder, make_zip])
Make = Callable[[Path, dict[str, bytes]], Path]


def load(path: Path, data_dir: Path, **options: Any) -> ImageSet:
    return load_images(path, image_size=16, data_dir=data_dir, **options)


@MAKERS
def test_all_damaged_files_are_named_at_once(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", GOOD | DAMAGED)
    with pytest.raises(ExternalError) as caught:
        load(path, tmp_path / "data")
    text = str(caught.value)
    assert text.startswith(f"{path}: 3 of 15 images cannot be read: cat/3x.png (is not one), dog/0x.png (")
    assert text.endswith(
        "dog/9.jpg (is not one); replace or remove them, or leave out what is damaged with --skip-damaged"
    )
    assert not list(tmp_path.rglob("*.npy"))


def test_ten_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "x", GOOD | {f"bad{i:02d}.png": b"" for i in range(1201)})
    with pytest.raises(ExternalError) as caught:
        load(path, tmp_path / "data")
    assert "1,201 of 1,213 images" in str(caught.value)
    assert "bad09.png (is not one) and 1,191 more; replace" in str(caught.value)
    assert "bad10" not in str(caught.value)


@MAKERS
@pytest.mark.parametrize("tried_before", [False, True])
def test_left_out_files_are_as_if_they_had_never_been_there(
    make: Make, tried_before: bool, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sound = make(tmp_path / "x.zip", GOOD | DAMAGED), make(tmp_path / "sound" / "x.zip", GOOD)
    data = tmp_path / "data"
    if tried_before:
        with pytest.raises(ExternalError):
            load(path, data)
    said.clear()
    images, expected = load(path, data, labels=True, skip_damaged=True), load(sound, tmp_path / "b", labels=True)
    np.testing.assert_array_equal(images.images[:], expected.images[:])
    np.testing.assert_array_equal(images.labels, expected.labels)
    assert (images.identity, images.class_names) == (expected.identity, expected.class_names)
    assert (images.left_out, expected.left_out) == (3, 0)
    (line,) = (line for line in said if line.endswith("they are left out"))
    assert "3 of 15 images cannot be read: cat/3x.png (is not one), dog/0x.png (" in line
    assert any("looking for damaged" in line for line in said) != tried_before, "what is known is not sought again"
    monkeypatch.setattr("d3gan.data.folders._decode_all", None)
    assert load(path, data, skip_damaged=True).checksum == expected.checksum, "from the cache"


@MAKERS
def test_sound_images_are_the_same_with_and_without(make: Make, tmp_path: Path, said: list[str]) -> None:
    path = make(tmp_path / "x.zip", GOOD)
    skipping, plainly = load(path, tmp_path / "a", skip_damaged=True), load(path, tmp_path / "b")
    assert (skipping.identity, skipping.left_out) == (plainly.identity, 0)
    assert not any("left out" in line for line in said)


@MAKERS
def test_where_all_are_damaged_nothing_is_left(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", DAMAGED)
    for _ in range(2):
        with pytest.raises(ExternalError, match=r"3 of 3 images cannot be read: .*; no image is left"):
            load(path, tmp_path / "data", skip_damaged=True)


def test_a_class_of_damaged_files_alone_is_no_class(tmp_path: Path) -> None:
    files = {name: data for name, data in GOOD.items() if name.startswith("cat")}
    path = make_folder(tmp_path / "x", files | {"dog/0.png": b"", "cow/0.png": plain("green")})
    assert load(path, tmp_path / "data", labels=True, skip_damaged=True).class_names == ("cat", "cow")
    with pytest.raises(ConfigError, match="its images have no classes"):
        load(make_folder(tmp_path / "y", files | {"dog/0.png": b""}), tmp_path / "d", labels=True, skip_damaged=True)


@MAKERS
def test_mended_files_come_back(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", GOOD | DAMAGED)
    assert len(load(path, tmp_path / "data", skip_damaged=True).images) == 12
    make(path, GOOD | {name: plain("green") for name in DAMAGED})
    assert len(load(path, tmp_path / "data", skip_damaged=True).images) == 15


def test_a_zip_whose_content_is_damaged_and_replaced_comes_back(tmp_path: Path) -> None:
    """Its directory, by which a zip is known, stays the same."""
    path = make_zip(tmp_path / "x.zip", GOOD)
    sound = path.read_bytes()
    path.write_bytes(sound[:60] + b"damage" + sound[66:])
    assert load(path, tmp_path / "data", skip_damaged=True).left_out == 1
    path.write_bytes(sound)
    assert load(path, tmp_path / "data", skip_damaged=True).left_out == 0


def test_a_list_that_misses_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    """As after a change of Pillow."""
    path, data = make_folder(tmp_path / "x", GOOD | DAMAGED), tmp_path / "data"
    load(path, data, skip_damaged=True)
    for cache in data.rglob("*.npy"):
        cache.unlink()
    (known,) = data.rglob("damaged-*.json")
    damaged = json.loads(known.read_text())
    damaged.popitem()
    known.write_text(json.dumps(damaged))
    with pytest.raises(ExternalError, match="cannot be read"):
        load(path, data, skip_damaged=True)
    assert load(path, data, skip_damaged=True).left_out == 3
    for text in ("[]", "", '{"999": "not there"}', '{"-1": "not there"}'):
        known.write_text(text)
        assert load(path, data, skip_damaged=True).left_out == 3


def test_a_run_says_what_it_does_without_and_resumes(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "x", GOOD | DAMAGED)
    config = tiny_settings(path, tmp_path / "run", max_steps=2, skip_damaged=True)
    train(TrainConfig(**config))
    run = train(TrainConfig(**config | {"max_steps": 4})).run
    for session in json.loads((run / "environment.json").read_text())["sessions"]:
        assert (session["data"]["images"], session["data"]["damaged_left_out"]) == (12, 3)
        assert session["data"]["sha256"] == load_checkpoint(checkpoints(run / "checkpoints")[-1])["data"]
    with pytest.raises(ExternalError, match="3 of 15 images"):
        train(TrainConfig(**config | {"skip_damaged": False}))
    for name in DAMAGED:
        (path / name).unlink()
    train(TrainConfig(**config | {"skip_damaged": False, "max_steps": 6}))
    Image.new("RGB", (16, 16)).save(path / "cat/3x.png")
    with pytest.raises(ConfigError, match="trained on other images"):
        train(TrainConfig(**config))


def test_evaluations_do_without_them_too(tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_folder(tmp_path / "x", GOOD | DAMAGED)
    evaluated = dict(evaluate_every=2, num_samples=8, features=str(network), metrics="kid,fid", max_steps=2)
    run = train(TrainConfig(**tiny_settings(path, tmp_path / "run", skip_damaged=True, **evaluated))).run
    words = ["--features", str(network), "--metrics=fid", "--json", "--num-samples=8"]
    assert main(["evaluate", str(run), *words]) == 0
    images = ["evaluate", "--images", str(path), "--reference", str(path), *words]
    assert main([*images, "--skip-damaged"]) == 0
    assert main(images) == 1
    assert "3 of 15 images cannot be read" in capsys.readouterr().err
