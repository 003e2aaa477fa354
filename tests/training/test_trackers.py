"""What TensorBoard, W&B and MLflow get of a run; the last two are small stand-ins here."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d3gan import TrainConfig, train
from d3gan.errors import ConfigError
from d3gan.runs.directory import RunDirectory
from d3gan.runs.jsonl import read_lines
from tests.training.test_loop import assert_same_run

Tiny = Callable[..., TrainConfig]


@pytest.fixture
def tracked(tiny: Tiny, network: Path) -> Tiny:
    """A tiny run of 9 steps with two evaluations."""

    def make(name: str = "run", **changes: Any) -> TrainConfig:
        followed = dict(features=str(network), metrics="fid", evaluate_every=5, num_samples=20, max_steps=9)
        return tiny(name, **(followed | changes))

    return make


class FakeConfig(dict[str, Any]):
    def update(self, settings: Any, *, allow_val_change: bool) -> None:  # type: ignore[override]
        assert allow_val_change, "without it wandb refuses another value in a resumed run"
        super().update(settings)


class FakeWandb(ModuleType):
    """Remembers what it is told, by run and step."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[Any] = []
        self.fails_at = -1

    def init(self, **words: Any) -> Any:
        run = SimpleNamespace(words=words, logged=dict[int, dict[str, Any]](), config=FakeConfig(), summary={})
        run.finish = lambda exit_code: setattr(run, "exit_code", exit_code)
        run.log = lambda values, step: self._log(run, values, step)
        self.runs.append(run)
        return run

    def _log(self, run: Any, values: dict[str, Any], step: int) -> None:
        if step == self.fails_at:
            raise OSError("no route to host")
        run.logged.setdefault(step, {}).update(values)

    Settings = staticmethod(lambda **words: words)
    Image = staticmethod(lambda picture: ("image", picture))
    Histogram = staticmethod(lambda numbers: ("histogram", numbers))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_curves_pictures_histograms_settings_and_results(tracked: Tiny, wandb: FakeWandb) -> None:
    run = RunDirectory(train(tracked(track="wandb")).run)
    (told,) = wandb.runs
    lines, evaluations = read_lines(run.metrics), read_lines(run.evaluations)
    assert [line["step"] for line in lines] == [3, 6, 9]
    for line in lines:
        got = told.logged[line["step"]]
        assert got["generator_loss"] == line["generator_loss"]
        assert [got[f"weights/{k}"] for k in (0, 1)] == line["weights"]
        for k in (0, 1):
            kind, numbers = got[f"real_logits/{k}"]
            assert (kind, numbers.shape) == ("histogram", (4,))
            assert np.sign(numbers).mean() == line["real_signs"][k], "of the images that the line is about"
            assert (numbers != got[f"fake_logits/{k}"][1]).all()
    (fid,) = (name for name in evaluations[0] if name.startswith("fid_"))
    assert [told.logged[step][fid] for step in (5, 9)] == [line[fid] for line in evaluations]
    assert told.summary == {f"final/{fid}": evaluations[-1][fid]}
    for step, path in run.sample_grids():
        np.testing.assert_array_equal(told.logged[step]["samples"][1], np.asarray(Image.open(path)))
    assert (told.config["weighting"], told.config["lr"], told.config["dataset"]) == ("argmax", 0.0002, "pictures0")
    assert not any(os.sep in str(value) for value in told.config.values()), "no paths"
    assert (told.words["dir"], told.words["name"], told.exit_code) == (str(run.path), "run", 0)


def test_trackers_change_no_bit_and_a_resumed_run_keeps_its_name(tracked: Tiny, wandb: FakeWandb) -> None:
    plain = train(tracked("plain")).run
    run = train(tracked(track="wandb", max_steps=4)).run
    train(tracked(track="wandb"))
    assert_same_run(plain, run)
    first, second = wandb.runs
    assert first.words["id"] == second.words["id"] == json.loads((run / "tracking.json").read_text())["wandb"]
    assert first.words["resume"] == "allow"


def test_a_stopped_run_is_not_a_finished_one(tracked: Tiny, wandb: FakeWandb) -> None:
    def stop(_line: dict[str, Any]) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(tracked(track="wandb"), on_tick=stop)
    (told,) = wandb.runs
    assert (told.exit_code, told.summary) == (1, {})


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_tracker_that_fails_costs_a_warning(
    when: str, tracked: Tiny, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    if when == "later":
        wandb.fails_at = 6
    else:
        monkeypatch.setattr(wandb, "init", lambda **_: wandb.runs[3])
    run = train(tracked(track="wandb")).run
    (warning,) = (line for line in said if line.startswith("track = wandb: failed ("))
    assert ("OSError: no route to host" if when == "later" else "IndexError") in warning
    assert [sorted(told.logged)[-1] for told in wandb.runs] == ([5] if when == "later" else [])
    assert_same_run(run, train(tracked("plain")).run)


class FakeMLflow:
    """A store of runs, and its client."""

    def __init__(self) -> None:
        self.experiments: list[str] = []
        self.runs: dict[str, Any] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return name

    def create_run(self, experiment: str, run_name: str) -> Any:
        number = f"run {len(self.runs)}"
        data = SimpleNamespace(params=dict[str, str](), metrics=list[Any](), files=list[str]())
        self.runs[number] = SimpleNamespace(data=data, info=SimpleNamespace(run_id=number), status="RUNNING")
        return self.runs[number]

    def get_run(self, number: str) -> Any:
        return self.runs[number]

    def update_run(self, number: str, status: str) -> None:
        self.runs[number].status = status

    def set_terminated(self, number: str, status: str) -> None:
        self.runs[number].status = status

    def log_batch(self, number: str, metrics: Any = (), params: Any = ()) -> None:
        data = self.runs[number].data
        assert not {name for name, _ in params} & set(data.params), "it lets nobody change a parameter"
        assert len(params) <= 100
        data.params.update(params)
        data.metrics += metrics

    def log_image(self, number: str, picture: Any, artifact_file: str) -> None:
        assert picture.dtype == np.uint8
        self.runs[number].data.files.append(artifact_file)


def test_mlflow_gets_the_same_and_a_resumed_run_goes_on(tracked: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    store, module, entities = FakeMLflow(), ModuleType("mlflow"), ModuleType("mlflow.entities")
    vars(module)["MlflowClient"] = lambda: store
    vars(entities).update(Metric=lambda *parts: parts, Param=lambda *parts: parts)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    train(tracked(track="mlflow", max_steps=4))
    run = RunDirectory(train(tracked(track="mlflow")).run)
    ((number, told),) = store.runs.items()
    assert (store.experiments, told.status) == (["d3gan"], "FINISHED")
    assert json.loads((run.path / "tracking.json").read_text()) == {"mlflow": number}
    curves = {(name, step): value for name, value, _, step in told.data.metrics}
    lines = read_lines(run.metrics)
    assert [curves["generator_loss", line["step"]] for line in lines] == [line["generator_loss"] for line in lines]
    assert curves["real_logits/1/p05", 9] <= curves["real_logits/1/p50", 9] <= curves["real_logits/1/p95", 9]
    assert any(name.startswith("final/fid_") for name, _ in curves)
    assert told.data.params["batch_size"] == "4"
    assert told.data.params["max_steps"] == "4", "the first value"
    assert told.data.files == [f"samples/step-{step:08d}.png" for step in (0, 4, 9)]


@pytest.mark.parametrize("word", [{"track": "tensorboard"}, {"tensorboard": True}])
def test_tensorboard_gets_the_same(word: dict[str, Any], tracked: Tiny) -> None:
    pytest.importorskip("tensorboard")
    run = RunDirectory(train(tracked(**word)).run)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "events"), {"histograms": 0})  # 0: all
    events.Reload()
    tags, (line, *_) = events.Tags(), read_lines(run.metrics)
    assert [event.step for event in events.Scalars("generator_loss")] == [3, 6, 9]
    assert events.Scalars("real_losses/1")[0].value == pytest.approx(line["real_losses"][1])
    assert [event.step for event in events.Images("samples")] == [0, 9]
    assert [event.step for event in events.Histograms("fake_logits/1")] == [3, 6, 9]
    assert events.Histograms("real_logits/0")[0].histogram_value.num == 4
    (fid,) = (tag for tag in tags["scalars"] if tag.startswith("final/fid_"))
    assert events.Scalars(fid)[0].value == events.Scalars(fid.removeprefix("final/"))[-1].value
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert fid.encode() in events.summary_metadata["_hparams_/experiment"].plugin_data.content


def test_md_gan_names_its_discriminators(tiny: Tiny, wandb: FakeWandb) -> None:
    train(tiny(model="md-gan", track="wandb", max_steps=3))
    (told,) = wandb.runs
    assert {name for name in told.logged[3] if "real_logits" in name} == {"real_logits/0", "real_logits/1"}


def test_a_missing_package_is_named_before_training(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # so that importing it fails
    with pytest.raises(ConfigError, match=r"track = mlflow: mlflow is not installed; pip install 'd3gan\[mlflow\]'"):
        train(tiny(track="mlflow"))
    assert not tiny().run_directory.exists()


def test_names_of_trackers_are_checked_and_have_one_order() -> None:
    config = TrainConfig(track=" MLflow, wandb".strip(), tensorboard=True)
    assert (config.track, config.trackers) == ("wandb,mlflow", ("tensorboard", "wandb", "mlflow"))
    with pytest.raises(
        ConfigError, match=r"track = wand: 'wand' is unknown \(did you mean 'wandb'\?\); allowed: tens"
    ):
        TrainConfig(track="wand")
