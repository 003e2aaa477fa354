"""``d3gan info`` and ``d3gan runs``: runs in every state, as text and as JSON."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from d3gan import TrainConfig, train
from d3gan.cli import main
from d3gan.status.read import Status, read_status
from d3gan.status.text import news_text, progress_text
from tests.conftest import tiny_settings

NAMED = {"state", "step", "last_step", "metric", "last", "best", "images_per_second", "model"}


@pytest.fixture(scope="module")
def runs(pictures: Path, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished and a stopped run."""
    folder = tmp_path_factory.mktemp("runs")
    changes: dict[str, dict[str, Any]] = {"done": {"model": "dcgan"}, "stopped": {"max_steps": 6}}
    for name, change in changes.items():
        settings = tiny_settings(pictures, folder / "deep" / name, evaluate_every=4, num_samples=20, **change)
        train(TrainConfig(**settings, features=str(network)))
    config = folder / "deep" / "stopped" / "config.ini"
    config.write_text(config.read_text().replace("max_steps = 6", "max_steps = 0"))
    # Evaluations as they may come: the last is not the best, and one of fewer images is not compared.
    for name, values in {"done": (1.0, 40.25, 20.5, 30, 31, 32.125), "stopped": (50, 51)}.items():
        path = folder / "deep" / name / "evaluations.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        (fid,) = (key for key in lines[0] if key.startswith("fid_"))
        for line, value in zip(lines, values, strict=True):
            line |= {fid: value, "evaluation_seconds": 3}
        lines[0]["num_samples"] = 10
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def text_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_info_tells_what_a_run_is_how_far_and_how_to_go_on(runs: Path, capsys: Any, tmp_path: Path) -> None:
    path = shutil.copytree(runs / "deep" / "stopped", tmp_path / "a run")
    found = json.loads(text_of(capsys, "info", str(path), "--json"))
    assert {key: found[key] for key in ("state", "model", "step", "last_step", "seed")} == dict(
        state="stopped", model="d3gan", step=6, last_step=22, seed=0
    )
    text = text_of(capsys, "info", str(path))
    lines = text.splitlines()
    assert lines[0].startswith(f"{path}: d3gan on {found['dataset']}, 16 x 16 pixels, batch size 4, seed 0")
    assert "state    stopped, at step 6 of 22 (27 %)" in lines
    (command,) = (line.removeprefix("go on    ") for line in lines if line.startswith("go on"))
    words = shlex.split(command)
    assert words == found["resume"]
    # The command does resume the run, and then it is finished.
    assert words[0] == "d3gan"
    assert main(words[1:]) == 0
    assert "steps 6 to 22" in capsys.readouterr().out
    assert "state    finished, at step 22 of 22 (100 %)" in text_of(capsys, "info", str(path))


def test_the_best_figure_is_the_best_of_its_kind(runs: Path, capsys: Any) -> None:
    text = text_of(capsys, "info", str(runs / "deep" / "done"))
    assert " 32.12 at step 22; best 20.50 at step 12" in text
    assert "longer   d3gan train" not in text, "a learning rate that falls over the epochs"
    found = json.loads(text_of(capsys, "info", str(runs / "deep" / "done"), "--json"))
    assert (found["last"], found["best"], found["best_at_step"]) == (32.125, 20.5, 12)


def test_runs_lists_runs_in_every_state(runs: Path, capsys: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(runs, tmp_path / "all")
    for name in ("running", "broken", "torn", "fresh"):
        shutil.copytree(folder / "deep" / "stopped", folder / name)
    (folder / "broken" / "config.ini").write_text((folder / "broken" / "config.ini").read_text() + "stray")
    (folder / "torn" / "metrics.jsonl").write_text('{"step": 4')
    (folder / "fresh" / "metrics.jsonl").unlink()
    (folder / "theirs" / "checkpoints").mkdir(parents=True)
    (folder / "nothing").mkdir()
    (folder / ".hidden" / "checkpoints").mkdir(parents=True)
    (folder / "notes").mkdir()
    (folder / "notes" / "todo.txt").write_text("no run")
    with FileLock(folder / "running" / ".lock", thread_local=False):
        found = json.loads(text_of(capsys, "runs", str(folder), "--json"))
        table = text_of(capsys, "runs", str(folder)).splitlines()
    states = {str(Path(run["run"]).relative_to(folder)): run["state"] for run in found}
    assert states == {
        "broken": "damaged",
        "deep/done": "finished",
        "deep/stopped": "stopped",
        "fresh": "new",
        "nothing": "empty",
        "running": "running",
        "theirs": "foreign",
        "torn": "damaged",
    }
    assert all(run.keys() >= NAMED for run in found)
    rows = {line.split()[0]: line for line in table[1:-1]}
    assert rows.keys() == states.keys(), "one line each"
    assert "6 of 22" in rows["running"]
    assert "damaged: " in rows["broken"]
    assert "holds no whole line" in rows["torn"]
    assert rows["nothing"].split() == ["nothing", "empty"]
    assert "20.50" in rows["deep/done"]
    assert table[-1].startswith("last, best: FID (")


def test_a_run_in_progress_in_one_line(runs: Path) -> None:
    status = dataclasses.replace(read_status(runs / "deep" / "stopped"), images_per_second=1234.5, metric="fid_x_y")
    # 16 steps of 4 images by the rate of its lines, and the evaluations of steps 8, 12, 16, 20 and 22.
    assert status.seconds_left is not None
    assert status.seconds_left > 15
    assert not read_status(runs / "deep" / "done").seconds_left
    status = dataclasses.replace(status, seconds_left=75.0)
    assert progress_text(status) == "step 6 of 22 (27 %)"
    assert news_text(status) == "0:01:15 left, FID (x, y) 51.00, 1,234 images/s"
    assert news_text(status, short=True) == "0:01:15 left  FID 51.00  1,234 images/s"
    assert news_text(Status(runs, "new")) == ""


@pytest.mark.parametrize(
    ("key", "first"), [("best", "done"), ("steps", "done"), ("model", "stopped"), ("state", "done"), ("run", "done")]
)
def test_runs_are_sorted(key: str, first: str, runs: Path, capsys: Any) -> None:
    rows = text_of(capsys, "runs", str(runs), "--sort", key).splitlines()
    assert rows[1].split()[0] == f"deep/{first}"


def test_what_is_no_run_is_an_error(runs: Path, tmp_path: Path, capsys: Any) -> None:
    for words, code, expected in (
        (["info", str(runs)], 2, f"holds several runs; `d3gan runs {runs}` lists them"),
        (["info", str(tmp_path)], 2, "holds no run of d3gan"),
        (["runs", str(tmp_path / "none")], 2, "no such folder"),
        (["runs", str(runs), "--sort", "fdi"], 2, "--sort = 'fdi': must be run, model"),
    ):
        assert main(words) == code
        assert expected in capsys.readouterr().err
    assert "holds no runs" in text_of(capsys, "runs", str(tmp_path))
    broken = shutil.copytree(runs / "deep" / "stopped", tmp_path / "broken")
    (broken / "config.ini").write_text((broken / "config.ini").read_text() + "stray")
    assert main(["info", str(broken)]) == 1
    assert "is damaged: " in capsys.readouterr().err


def test_info_and_runs_import_no_torch(runs: Path) -> None:
    code = (
        "import sys; from d3gan.cli import main\n"
        f"main(['runs', {str(runs)!r}]); main(['info', {str(runs / 'deep' / 'done')!r}])\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
