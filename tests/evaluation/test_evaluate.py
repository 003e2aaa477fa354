"""Whole evaluations: which fakes are made, what is said of them, and the order that any metric must show."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from d3gan.cli import main
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.command import measure_text
from d3gan.evaluation.evaluate import fake_images
from d3gan.evaluation.extractors.inception import inception
from d3gan.evaluation.feature_statistics import CHUNK, collect_statistics
from d3gan.evaluation.metric_names import PUBLISHED_FID
from d3gan.evaluation.metrics.fid import Moments, frechet_distance
from d3gan.evaluation.published_fid import published_fid, wrapped_to_uint8
from d3gan.evaluation.real_images import ImageFinder
from d3gan.images import from_uint8
from d3gan.models.base import GeneratorNetwork
from d3gan.randomness import draw_latents
from d3gan.runs.generator_file import load_generator
from tests.evaluation.networks import formula_weights
from tests.evaluation.test_reference import Pixels

# The fakes.


def test_a_fake_depends_on_the_seed_and_its_number_alone(run: Path) -> None:
    source = fake_images(load_generator(run), 3)
    whole = source(0, 600)
    assert whole.shape == (600, 3, 16, 16)
    assert whole.dtype == torch.uint8
    assert torch.equal(torch.cat([source(0, 1), source(1, 260), source(260, 600)]), whole)
    assert len(whole.flatten(1).unique(dim=0)) == 600
    assert not torch.equal(fake_images(load_generator(run), 4)(0, 10), whole[:10])


class Fixed(GeneratorNetwork):
    """Returns the same image always, and records its mode at each call."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.nz, self.sample_shape = 2, tuple(image.shape)
        self.image = nn.Parameter(image)
        self.modes: list[bool] = []

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        self.modes.append(self.training)
        return self.image.expand(len(latents), -1, -1, -1)


def test_images_are_rounded_and_clipped_and_never_stretched() -> None:
    values = torch.tensor([[-1.5, -1.0, -0.2, 0.0], [0.0039, 0.3, 0.9, 2.0]])[None].repeat(1, 2, 1)
    generator = Fixed(values)
    images = fake_images(generator, 0)(0, 1)
    assert images[0, 0, :2].tolist() == [[0, 0, 102, 128], [128, 166, 242, 255]]
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    dim = Fixed(0.1 * torch.rand(3, 4, 4))
    assert int(fake_images(dim, 0)(0, 1).max()) <= 141


def test_the_generator_is_asked_in_eval_mode_and_left_as_it_was() -> None:
    generator = Fixed(torch.zeros(3, 4, 4)).train()
    fake_images(generator, 0)(0, 300)
    assert set(generator.modes) == {False}
    assert generator.training


def test_images_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ExternalError, match="not finite"):
        fake_images(Fixed(torch.full((3, 4, 4), torch.nan)), 0)(0, 2)


@pytest.mark.parametrize("count", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_exactly_the_images_asked_for_are_counted(count: int) -> None:
    asked: list[tuple[int, int]] = []

    def source(start: int, stop: int) -> Tensor:
        asked.append((start, stop))
        return torch.zeros(stop - start, 3, 4, 4, dtype=torch.uint8)

    done: list[int] = []
    statistics = collect_statistics(
        source, count, Pixels(), Group(), score=True, all_features=True, advance=done.append
    )
    assert statistics is not None
    assert statistics.moments.count == count == sum(done)
    assert statistics.features is not None
    assert len(statistics.features) == count
    assert sorted(n for start, stop in asked for n in range(start, stop)) == list(range(count))


def test_a_set_sorted_by_class_has_the_score_of_a_shuffled_one() -> None:
    class Classes(Pixels):
        def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return super().compute(images)[0], 100 * nn.functional.one_hot(images[:, 0, 0, 0].long(), 3).float()

    def source(start: int, stop: int) -> Tensor:
        return (torch.arange(start, stop) // 200).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)

    statistics = collect_statistics(source, 600, Classes(), Group(), score=True)
    assert statistics is not None
    assert statistics.score is not None
    assert statistics.score[0] > 2.8  # of 3; dealt in order, most splits would hold one class and score 1


# The command.


def evaluate(*words: object, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def test_a_run_is_measured_and_every_metric_says_how(
    run: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = evaluate(run, "--num-samples", 300, "--features", network, capsys=capsys)
    name = record["features"]
    assert name.startswith("tiny-")
    assert record["num_samples"] == 300
    assert record["reference_images"] == 44
    assert record["generator"] == "ema"
    assert "eval mode (BatchNorm running statistics)" in record["generator_mode"]
    assert (record["seed"], record["step"]) == (0, 22)
    for metric in ("fid", "kid", "precision", "recall", "density", "coverage"):
        assert record[f"{metric}_{name}_all"] >= 0
    assert 1 <= record[f"is_{name}"] <= 4
    assert not any(key in record for key in ("fid", "is", "kid"))
    assert main(["evaluate", str(run), "--num-samples", "300", "--features", str(network)]) == 0
    table = capsys.readouterr().out
    assert f"FID ({name}, all)" in table
    assert f"{record[f'fid_{name}_all']:.2f}" in table
    assert "in eval mode (BatchNorm running statistics)" in table


def test_the_runs_own_data_folder_is_used(
    tiny: Any, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from d3gan import train

    run = train(tiny("elsewhere", max_steps=2, data_dir=str(tmp_path / "my data"))).run
    evaluate(run, "--num-samples", 30, "--features", network, "--metrics", "fid", capsys=capsys)
    assert len(list((tmp_path / "my data" / "references").glob("*.npz"))) == 1


def test_weights_seed_and_file_are_chosen(run: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--num-samples", 60, "--features", network, "--metrics", "fid")

    def fid(*words: object) -> float:
        record = evaluate(*words, *common, capsys=capsys)
        return float(record[f"fid_{record['features']}_all"])

    averaged, raw = fid(run), fid(run, "--generator", "raw")
    assert averaged != raw
    assert fid(run, "--generator", "ema") == averaged
    assert fid(run / "generator.safetensors") == raw
    assert fid(run, "--seed", 0) == averaged
    assert fid(run, "--seed", 1) != averaged


def test_folders_and_zips_are_measured(
    pictures: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--features", network, "--reference", pictures)
    same = evaluate("--images", pictures, *common, capsys=capsys)
    name = f"{same['features']}_{pictures.name}"
    assert same["num_samples"] == 44
    assert same[f"fid_{name}"] == pytest.approx(0.0, abs=1e-9)
    assert [same[f"{metric}_{name}"] for metric in ("precision", "recall", "density", "coverage")] == [1.0] * 4
    some = evaluate("--images", pictures, "--num-samples", 20, "--metrics", "fid", *common, capsys=capsys)
    assert some["num_samples"] == 20
    assert some[f"fid_{name}"] > 0
    archive = tmp_path / "copy.zip"
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-c", str(archive), *map(str, sorted(pictures.glob("*")))], check=True
    )
    zipped = evaluate("--images", archive, *common, capsys=capsys)
    assert zipped[f"fid_{name}"] == pytest.approx(0.0, abs=1e-9)


def test_images_of_another_size_are_brought_to_one(
    pictures: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    for i in range(12):
        Image.new("RGB", (8, 8), (i * 20, 0, 0)).save(small / f"{i}.png")
    capsys.readouterr()
    words = ["evaluate", "--images", str(small), "--reference", str(pictures), "--features", str(network)]
    assert main([*words, "--metrics", "fid"]) == 0
    assert "resizing its images to 8 x 8" in capsys.readouterr().out


def test_statistics_go_out_and_come_back(
    run: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.npz"
    common = ("--num-samples", 60, "--features", network)
    first = evaluate(run, *common, "--save-reference", path, capsys=capsys)
    again = evaluate(run, *common, "--reference", path, capsys=capsys)
    name = first["features"]
    for metric in ("fid", "kid", "coverage"):
        assert again[f"{metric}_{name}_mine"] == first[f"{metric}_{name}_all"]
    with np.load(path) as file:
        np.savez(tmp_path / "theirs.npz", mu=file["mu"], sigma=file["sigma"])
    theirs = evaluate(run, *common, "--reference", tmp_path / "theirs.npz", "--metrics", "fid,is", capsys=capsys)
    assert theirs[f"fid_{name}_theirs"] == first[f"fid_{name}_all"]


def test_intervals_hold_their_values(run: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = evaluate(run, "--num-samples", 80, "--features", network, "--bootstrap", 20, capsys=capsys)
    intervals = {name: value for name, value in record.items() if name.endswith("_interval")}
    assert len(intervals) == 8
    for name, (low, high) in intervals.items():
        assert low <= record[name.removesuffix("_interval")] <= high
    plain = evaluate(run, "--num-samples", 80, "--features", network, capsys=capsys)
    assert {name: record[name] for name in plain} == plain


def test_too_few_images_are_warned_of_once(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run), "--features", "efficientnet-lite0", "--num-samples", "30", "--metrics", "fid"]
    assert main(words) == 0
    assert capsys.readouterr().out.count("warning: 30 images for 1,280 features") == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["RUN", "--metrics", "fid,fdi"], 2, "'fdi' is unknown (did you mean 'fid'?); allowed: fid,is,kid,prdc"),
        (["RUN", "--metrics", ","], 2, "metrics is empty"),
        (["RUN", "--num-samples", "1"], 2, "one image or replicate has no statistics"),
        (["RUN", "--num-samples", "-1"], 2, "num_samples = -1"),
        (["RUN", "--reference", "test"], 2, "has no splits"),
        (["RUN", "--reference", "nowhere"], 2, "no such images"),
        (["RUN", "--reference", "none.npz"], 2, "no such file"),
        (["RUN", "--features", "incption"], 2, "did you mean 'inception'"),
        (["RUN", "--inception-weights", "none.pth"], 2, "no such file"),
        (["RUN", "--inception-weights", "SHORT"], 1, "cut short, or another file"),
        (["RUN", "--protocol", "published", "--features", "NETWORK"], 2, "is defined by 64 features of Inception"),
        (["RUN", "--features", "BARE", "--metrics", "is"], 2, "needs class logits"),
        (["RUN", "--reference", "THEIRS", "--features", "NETWORK"], 2, "holds no features, only mu and sigma"),
        (["RUN", "--image-size", "16"], 2, "--image-size: is for --images only"),
        (["RUN", "--save-reference", "x.txt"], 2, "must end in .npz"),
        (["RUN", "--num-samples", "5", "--features", "NETWORK", "--metrics", "is"], 2, "is needs at least 10 images"),
        (["RUN", "--num-samples", "5", "--features", "NETWORK", "--metrics", "fid,prdc"], 2, "leave it out: fid"),
        (
            ["LONE", "--reference", "PICTURES", "--protocol", "published"],
            2,
            "needs the batch size from the run's config",
        ),
        (["LONE"], 2, "are not there"),
        (["nowhere"], 2, "holds no run"),
        (["RUN", "--images", "PICTURES"], 2, "either RUN or --images"),
        ([], 2, "either RUN or --images"),
        (["--images", "PICTURES"], 2, "--images needs --reference"),
        (["--images", "EMPTY", "--reference", "PICTURES"], 1, "holds no image"),
        (["--images", "TEXTS", "--reference", "PICTURES"], 1, "cannot be read as PNG, JPEG or WebP"),
        (["--images", "PICTURES", "--reference", "EMPTY"], 1, "holds no image"),
        (["--images", "PICTURES", "--reference", "PICTURES", "--num-samples", "45"], 2, "holds 44 images"),
        (["--images", "PICTURES", "--reference", "PICTURES", "--protocol", "published"], 2, "give RUN, not --images"),
        (["--images", "nowhere", "--reference", "PICTURES"], 2, "--images nowhere: no such images"),
        (["PLAIN", "--generator", "ema"], 2, "has no moving average"),
    ],
)
def test_what_cannot_be_done_gets_one_line(
    words: list[str],
    code: int,
    message: str,
    run: Path,
    network: Path,
    pictures: Path,
    tmp_path: Path,
    tiny: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.png").write_text("no picture")
    (tmp_path / "short.pth").write_bytes(b"weights")
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(8), sigma=np.eye(8))
    paths = {"RUN": run, "NETWORK": network, "PICTURES": pictures, "EMPTY": tmp_path / "empty"}
    paths |= {"TEXTS": tmp_path / "texts", "SHORT": tmp_path / "short.pth", "THEIRS": tmp_path / "theirs.npz"}
    paths["LONE"] = tmp_path / "lone.safetensors"
    paths["LONE"].write_bytes((run / "generator.safetensors").read_bytes())
    if "BARE" in words:
        from tests.evaluation.extractors.test_extractors import script
        from tests.evaluation.networks import TinyNetwork

        paths["BARE"] = script(TinyNetwork(logits=False), tmp_path / "bare.pt")
    if "PLAIN" in words:
        from d3gan import train

        paths["PLAIN"] = train(tiny("plain", max_steps=2)).run
    arguments = [str(paths.get(word, word)) for word in words]
    if "--features" not in words and "--inception-weights" not in words:
        arguments += ["--features", str(network)]
    assert main(["evaluate", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1, error


def test_a_kid_of_one_subset_says_that_it_has_no_deviation() -> None:
    record: dict[str, Any] = {"num_samples": 20, "kid_x_train": 0.1, "subset_size": 20}
    assert "KID without a deviation: its one subset is all 20 images" in measure_text(record)
    assert "without" not in measure_text(record | {"kid_x_train_deviation": 0.01})


def test_help_and_options_need_no_torch() -> None:
    program = (
        "import sys; from d3gan.cli import main; main(['evaluate', '--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=dict(os.environ))


# The published protocol.


def test_conversion_as_published_wraps() -> None:
    values = torch.tensor([-1.0, -0.5, -0.001, 0.0, 0.5, 1.0])
    assert wrapped_to_uint8(values).tolist() == [1, 129, 0, 0, 127, 255]


def test_published_fid_is_that_of_one_batch_and_64_features(
    run: Path, pictures: Path, tmp_path: Path, network: Path
) -> None:
    torch.save(formula_weights(), tmp_path / "formula.pth")
    extractor = inception(tmp_path / "formula.pth")
    generator = load_generator(run)
    where = ImageFinder("", 16, 3, str(tmp_path))
    real = where.open(str(pictures), "--reference")
    fid = published_fid(generator, real, extractor, 6, seed=0)
    fakes = generator(draw_latents(6, 6, 0, "published protocol", device="cpu")).detach()
    sides = []
    for images in (from_uint8(real.source()(0, 6)), fakes):
        moments = Moments(64)
        moments.update(extractor.early_features((images * 255).long().remainder(256).to(torch.uint8)))
        sides.append(moments.gaussian())
    assert fid == pytest.approx(frechet_distance(*sides), rel=1e-9)
    assert fid > 0
    assert PUBLISHED_FID == "fid_64_features_one_batch"
    with pytest.raises(ConfigError, match="64 features of Inception"):
        published_fid(generator, real, Pixels(), 6, seed=0)
