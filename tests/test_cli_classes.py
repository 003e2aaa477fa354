"""Runs with classes as a person types them: train, resume, sample, export, evaluate."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from d3gan import TrainConfig, load_generator, sample, train
from d3gan.cli import main
from d3gan.data.load import load_images
from d3gan.errors import ConfigError
from d3gan.evaluation.evaluate import fake_images
from d3gan.evaluation.metrics.fid import Moments, frechet_distance
from d3gan.images import grid_rows
from d3gan.runs.generator_file import read_facts
from tests.conftest import tiny_settings
from tests.evaluation.networks import TinyNetwork

NAMES = ("cat", "dog", "fish")


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """44 images of 16 x 16 pixels: 22 cats, 11 dogs, 11 fish."""
    folder = tmp_path_factory.mktemp("data") / "animals"
    pixels = np.random.default_rng(1).integers(0, 256, (44, 16, 16, 3), np.uint8)
    for i, image in enumerate(pixels):
        file = folder / NAMES[(0, 1, 0, 2)[i % 4]] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder


def settings(animals: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return tiny_settings(animals, out, conditional=True, sample_every=5, **changes)


@pytest.fixture(scope="module")
def run(animals: Path, tmp_path_factory: pytest.TempPathFactory, network: Path) -> Path:
    out = tmp_path_factory.mktemp("classes") / "run"
    evaluated = dict(evaluate_every=11, num_samples=30, metrics="fid", features=str(network), ema=0.9)
    torch.set_num_threads(1)
    return train(TrainConfig(**settings(animals, out, **evaluated))).run


def test_a_stopped_run_with_classes_ends_as_one_that_never_stopped(animals: Path, tmp_path: Path) -> None:
    for changes in ({}, {"model": "md-gan"}):
        whole = train(TrainConfig(**settings(animals, tmp_path / f"whole{len(changes)}", **changes))).run
        for last in (7, 22):
            out = tmp_path / f"stopped{len(changes)}"
            stopped = train(TrainConfig(**settings(animals, out, max_steps=last, **changes))).run
        files = [folder / "generator.safetensors" for folder in (whole, stopped)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_run_does_not_resume_on_other_labels(animals: Path, tmp_path: Path) -> None:
    (tmp_path / "animals").mkdir()
    for folder in animals.iterdir():
        (tmp_path / "animals" / folder.name).symlink_to(folder)
    given = settings(tmp_path / "animals", tmp_path / "run", max_steps=3)
    train(TrainConfig(**given))
    names = sorted(path.relative_to(animals).as_posix() for path in animals.rglob("*.png"))
    labels = [[name, i % 3] for i, name in enumerate(names)]
    (tmp_path / "animals" / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(ConfigError, match="was trained on other images than animals holds now"):
        train(TrainConfig(**(given | {"max_steps": 5})))


def test_the_generator_knows_its_classes(run: Path) -> None:
    generator = load_generator(run)
    assert (generator.classes, generator.class_names) == (3, NAMES)
    assert read_facts(run)["class_counts"] == [22, 11, 11]
    images = sample(generator, labels=torch.tensor([2, 0, 1]))
    assert images.shape == (3, 3, 16, 16)
    assert torch.equal(sample(generator, 3), sample(generator, labels=torch.arange(3)))
    latents = torch.randn(1, 6).expand(3, -1)
    assert len(generator(latents, torch.arange(3)).unique(dim=0)) == 3, "each class makes another image of a latent"
    with pytest.raises(TypeError, match="3 classes: give labels"):
        generator(latents)


def test_sample_grids_of_a_run_have_a_row_per_class(run: Path) -> None:
    with Image.open(run / "samples" / "step-00000022.png") as grid:
        assert grid.size == (8 * 18 + 2, 3 * 18 + 2)


def grid(*words: str, path: Path) -> np.ndarray:
    assert main(["sample", *words, f"--out={path}"]) == 0
    with Image.open(path) as image:
        return np.asarray(image)


def test_sample_by_class(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = grid(str(run), "--classes", "fish", "cat", "--per-class=5", path=tmp_path / "a.png")
    assert named.shape[:2] == (2 * 18 + 2, 5 * 18 + 2)
    assert capsys.readouterr().out == f"rows: fish, cat\n{tmp_path / 'a.png'}\n"
    numbered = grid(str(run), "--classes=2,0", "--per-class=5", path=tmp_path / "b.png")
    assert np.array_equal(named, numbered)
    images = sample(load_generator(run), labels=torch.tensor([2] * 5 + [0] * 5)).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(named[2:18, 2:18], images[0])
    assert np.array_equal(named[20:36, 20:36], images[6])
    every = grid(str(run), "--num=21", path=tmp_path / "c.png")
    assert every.shape[:2] == (3 * 18 + 2, 7 * 18 + 2)
    rows = grid(str(run), "--interpolate", "--num=8", "--columns=4", "--classes=dog", path=tmp_path / "d.png")
    assert rows.shape[:2] == (2 * 18 + 2, 4 * 18 + 2)


def test_animations_show_the_rows_of_the_classes_asked_for(run: Path, tmp_path: Path) -> None:
    sizes = []
    for words in ([], ["--classes", "fish,cat"]):
        path = tmp_path / f"{len(words)}.webp"
        assert main(["sample", str(run), "--animate", *words, f"--out={path}"]) == 0
        with Image.open(path) as image:
            sizes.append(image.height)
    assert sizes[0] > sizes[1]


def test_grid_rows_are_those_of_the_grid(run: Path) -> None:
    with Image.open(run / "samples" / "step-00000022.png") as image:
        whole, some = np.asarray(image), np.asarray(grid_rows(image, [2, 0], 16))
    assert np.array_equal(some[0:20], whole[36:56])
    assert np.array_equal(some[18:38], whole[0:20])


def test_arrays_have_labels_drawn_like_the_datas(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    assert main(["sample", str(run), "--num=400", f"--npz={path}"]) == 0
    with np.load(path) as arrays:
        counts = np.bincount(arrays["labels"], minlength=3)
        assert (arrays["arr_0"].shape, arrays["latents"].shape) == ((400, 16, 16, 3), (400, 6))
    assert abs(counts[0] - 200) < 50
    assert abs(counts[1] - 100) < 50
    assert main(["sample", str(run), "--classes=dog", "--per-class=3", f"--npz={path}"]) == 0
    assert np.load(path)["labels"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--classes=cow"], "--classes cow: RUN has no such class.*allowed: cat, dog, fish, or 0 to 2"),
        (["--classes=3"], "--classes 3: RUN has no such class"),
        (["--classes=dgo"], "did you mean"),
        (["--classes=dog", "--columns=4"], "--columns: with --classes or --per-class each row is a class"),
        (["--animate", "--per-class=3"], "--per-class and --animate: give only one of them"),
    ],
)
def test_classes_that_are_not_there_are_refused(words: list[str], error: str, run: Path, capsys: Any) -> None:
    assert main(["sample", str(run), *words]) == 2
    assert re.search(error.replace("RUN", re.escape(str(run))), capsys.readouterr().err)


def test_a_generator_without_classes_refuses_them(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    plain = train(TrainConfig(**tiny_settings(pictures, tmp_path / "run", max_steps=1))).run
    for command in (["sample", "--classes=0"], ["sample", "--per-class=2"], ["evaluate", "--per-class"]):
        assert main([command[0], str(plain), *command[1:]]) == 2
        said = capsys.readouterr().err
        assert "was trained without classes; leave it out, or train with --conditional" in said


def test_exported_files_carry_the_classes(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    assert main(["export", str(run), f"--out={path}"]) == 0
    assert load_generator(path).class_names == NAMES
    assert grid(str(path), "--classes=dog", path=tmp_path / "a.png").any()
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "g.onnx"
    words = ["export", str(run), "--format", "onnx", "--out", str(path)]
    # In a separate process: the exporter leaves warnings behind that would fail other tests.
    done = subprocess.run([sys.executable, "-m", "d3gan", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    latents, labels = np.random.default_rng(0).standard_normal((7, 6), np.float32), np.array([0, 1, 2, 2, 1, 0, 2])
    images = runtime.InferenceSession(str(path)).run(["images"], {"latents": latents, "labels": labels})[0]
    expected = load_generator(run)(torch.from_numpy(latents), torch.from_numpy(labels)).detach().numpy()
    assert np.abs(images - expected).max() < 1e-5


def fid(of_class: dict[str, Any]) -> float:
    (value,) = (value for name, value in of_class.items() if name.startswith("fid_"))
    return float(value)


def test_evaluate_by_class(run: Path, network: Path, animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run), f"--features={network}", "--metrics=fid", "--num-samples=60", "--per-class"]
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["per_class"]
    assert list(record) == list(NAMES)
    assert [each["real_images"] for each in record.values()] == [22, 11, 11]
    assert {each["fake_images"] for each in record.values()} == {20}
    assert main(words) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[-4].startswith("class  FID (tiny")
    assert table[-4].endswith("real images  fake images")
    assert [line.split() for line in table[-3:]] == [
        [name, f"{fid(each):.2f}", str(each["real_images"]), "20"] for name, each in record.items()
    ]

    # Against the dogs in a folder of their own, and fakes of that class.
    reals = load_images(animals / "dog", image_size=16).images
    fakes = fake_images(load_generator(run / "generator-ema.safetensors"), 0, [0, 1, 0])(0, 20)
    gaussians = []
    for images in (torch.from_numpy(np.array(reals)), fakes):
        moments = Moments(8)
        moments.update(TinyNetwork().eval()(images)[0].detach())
        gaussians.append(moments.gaussian())
    assert fid(record["dog"]) == pytest.approx(frechet_distance(*gaussians), rel=1e-4)


def test_evaluations_during_training_draw_labels_like_the_datas(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [11, 22]
    generator = load_generator(run)
    source = fake_images(generator, 3, [22, 11, 11])
    assert torch.equal(torch.cat([source(0, 1), source(1, 260), source(260, 300)]), source(0, 300))
    assert torch.equal(
        fake_images(generator, 3, [1, 0, 0])(0, 5)[:, 0], fake_images(generator, 3, [7, 0, 0])(0, 5)[:, 0]
    )
    assert not torch.equal(fake_images(generator, 3, [1, 0, 0])(0, 5), fake_images(generator, 3, [0, 1, 0])(0, 5))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--images=x", "--reference=y", "--per-class"], "--per-class: needs RUN with classes"),
        (["RUN", "--per-class", "--reference=a.npz"], "--per-class: needs RUN with classes"),
        (["RUN", "--per-class", "--metrics=is"], "--per-class: computes FID, and --metrics is does not; add fid"),
    ],
)
def test_what_per_class_needs(words: list[str], error: str, run: Path, capsys: Any) -> None:
    assert main(["evaluate", *(str(run) if word == "RUN" else word for word in words)]) == 2
    assert error in capsys.readouterr().err
