"""The folder for the Hugging Face hub: what its card says, what its files hold, that it is a generator to load."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from d3gan import TrainConfig, load_generator, sample, train
from d3gan.cli import main
from d3gan.config.ini import load_config
from d3gan.runs.jsonl import read_lines
from tests.conftest import tiny_settings

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pictures: Path, network: Path) -> Path:
    """A run with a moving average, evaluated twice by the features of a file, on a folder of images."""
    torch.set_num_threads(1)
    settings = tiny_settings(pictures, tmp_path_factory.mktemp("hub") / "run", data_dir=str(pictures.parent / "data"))
    evaluated = dict(evaluate_every=11, num_samples=30, metrics="fid,kid", features=str(network), ema=0.9)
    return train(TrainConfig(**settings | evaluated)).run


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_folder_is_what_the_hub_takes(run: Path, tmp_path: Path, pictures: Path, said: list[str]) -> None:
    folder = tmp_path / "model"
    assert main(["export", str(run), "--format=hub", f"--out={folder}", "--license=cc-by-4.0"]) == 0
    files = {"README.md", "generator.safetensors", "config.ini", "samples.png", "metric-by-step.png"}
    assert {path.name for path in folder.iterdir()} == files
    head, body = card_of(folder)
    assert (head["library_name"], head["license"]) == ("d3gan", "cc-by-4.0")
    assert head["pipeline_tag"] == "unconditional-image-generation"
    assert {"gan", "d3gan", "dcgan", "image-generation"} <= set(head["tags"])
    assert "datasets" not in head, "a folder of the user's is no data set of the hub's"
    (index,) = head["model-index"]
    (result,) = index["results"]
    assert result["dataset"] == {"type": pictures.name, "name": pictures.name}
    last = read_lines(run / "evaluations.jsonl")[-1]
    fid = next(name for name in last if name.startswith("fid_"))
    by_type = {metric["type"]: metric for metric in result["metrics"]}
    assert by_type["fid"]["value"] == last[fid]
    assert re.fullmatch(r"FID \(tiny-\w+, all\), 30 samples", by_type["fid"]["name"])
    assert head["metrics"] == ["fid", "kid"]
    assert "uploaded nothing" in body
    assert f"nothing was uploaded; the hub's own tool does it: hf upload USER/NAME {folder}" in said
    with Image.open(folder / "samples.png") as picture:
        assert picture.width > 400


def test_no_file_of_the_folder_names_a_path_of_this_machine(
    run: Path, tmp_path: Path, network: Path, pictures: Path
) -> None:
    folder = tmp_path / "model"
    assert main(["export", str(run), "--format=hub", f"--out={folder}"]) == 0
    config = load_config(folder / "config.ini")
    assert (config.dataset, config.features, config.data_dir, config.out) == (pictures.name, "auto", "", "")
    foreign = {str(Path.home()), str(run), str(tmp_path), str(run.parents[2]), str(network.parent), "/tmp"}
    for file in folder.iterdir():
        content = file.read_bytes()
        assert [path for path in foreign if len(path) > 3 and path.encode() in content] == [], file.name


def test_the_folder_is_loaded_sampled_and_evaluated_like_a_run(
    run: Path, tmp_path: Path, network: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    assert main(["export", str(run), "--format=hub", f"--out={folder}"]) == 0
    ours, theirs = sample(load_generator(run / "generator-ema.safetensors"), 5), sample(load_generator(folder), 5)
    assert (ours == theirs).all()
    assert not (ours == sample(load_generator(run), 5)).all(), "the run's last weights would be others"
    assert main(["sample", str(folder), "--num=4", f"--out={tmp_path / 'grid.png'}"]) == 0
    capsys.readouterr()
    words = [f"--features={network}", "--metrics=fid", "--num-samples=30", f"--reference={pictures}", "--json"]
    assert main(["evaluate", str(folder), *words]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["generator"], record["step"]) == ("ema", 22)
    # The mark of a run is not in it: training would take it for one, and overwrite it.
    assert main(["report", str(folder), f"--out={tmp_path / 'r.html'}"]) == 2


def test_of_weights_that_were_not_evaluated_no_figure_is_told(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    words = ["--format=hub", f"--out={folder}"]
    assert main(["export", str(run / "generator.safetensors"), *words]) == 0  # raw: only the average was evaluated
    head, body = card_of(folder)
    assert not {"model-index", "metrics", "license"} & head.keys()
    assert "These weights were not evaluated." in body
    assert "No licence was named" in body
    assert not (folder / "metric-by-step.png").exists()


def test_a_folder_of_something_else_is_left_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("my notes")
    assert main(["export", str(run), "--format=hub", f"--out={tmp_path}"]) == 2
    assert "has a README.md of something else; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_points_have_a_card_too_and_names_stay_text(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    points = dict(dataset="ring8", batch_size=20, nz=2, ngf=6, ndf=4, max_steps=2, num_samples=50)
    run = train(TrainConfig(out=str(tmp_path / "run"), evaluate_every=2, device="cpu", **points)).run  # type: ignore[arg-type]
    assert main(["export", str(run), "--format=hub"]) == 0
    head, _ = card_of(run / "hub")
    assert {metric["type"] for metric in head["model-index"][0]["results"][0]["metrics"]} == {
        "modes",
        "quality",
        "kl",
    }
    assert "pipeline_tag" not in head

    from d3gan.export.hub import _markdown

    assert _markdown("a|b\n<img> [x](y)") == r"a\|b \<img\> \[x\](y)"
