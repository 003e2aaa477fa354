"""Comparisons of runs whose curves are known, from their directories to the figures on the disk."""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3gan.comparison.compare import compare_runs, write_comparison
from d3gan.comparison.curves import losses_at_evaluations
from d3gan.comparison.formatting import short_names, wrapped
from d3gan.comparison.results import Comparison, Table
from d3gan.comparison.runs import read_runs
from d3gan.config.ini import config_text
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.metric_names import PUBLISHED_FID
from d3gan.report.run_tables import runs_table
from d3gan.runs.directory import RunDirectory
from tests.scaling.documents import document

FID, IS = "fid_inception_train", "is_inception"
STEPS = range(100, 1001, 100)
MORE = " They differ in more than discriminators."  # in the activation and the schedule


def write_run(folder: Path, fid: Callable[[int], float], seconds_per_step: float = 0.1, **changes: Any) -> Path:
    """A run with an evaluation every 100 steps and a tick every 50."""
    values: dict[str, Any] = {"batch_size": 64, "out": str(folder)}
    config = TrainConfig(**(values | changes))
    run, K = RunDirectory(folder), config.recipe.discriminators
    folder.mkdir(parents=True)
    run.config.write_text(config_text(config))
    session = {"device": "cpu", "threads": 1, "world_size": 1, "data": {"name": config.dataset}}
    run.environment.write_text(json.dumps({"sessions": [session]}))
    lines, evaluations = [], []
    for step in range(50, STEPS[-1] + 1, 50):
        seen = {"step": step, "images_seen": 64 * step, "training_seconds": seconds_per_step * step}
        losses = {
            "real_losses": [1.0 + k for k in range(K)],
            "fake_losses": [0.5, 0.0][:K],
            "generator_loss": step / 100,
        }
        rest = {
            "weights": [0.8, 0.2] if K == 2 else [1 / K] * K,
            "images_per_second": 64 / seconds_per_step,
            "global_batch_size": 64,
        }
        lines.append(seen | losses | rest | {"epoch": step / 500})
        if step in STEPS:
            evaluations.append(seen | {FID: fid(step), IS: 2.0, "num_samples": 100, "generator": "raw"})
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.evaluations.write_text("".join(json.dumps(line) + "\n" for line in evaluations))
    return folder


def falling(start: float, half: float) -> Callable[[int], float]:
    """A FID that halves every ``half`` steps."""
    return lambda step: start * 0.5 ** (step / half)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """D3GAN gets to each FID in half of the steps of DCGAN, each step of it taking 1.5 times as long; three seeds."""
    found = []
    for seed in range(3):
        shift = 1 + 0.1 * seed
        dcgan = write_run(tmp_path / f"dcgan-{seed}", falling(100 * shift, 400), 0.1, model="dcgan", seed=seed)
        d3gan = write_run(tmp_path / f"d3gan-{seed}", falling(100 * shift, 200), 0.15, model="d3gan", seed=seed)
        found += [dcgan, d3gan]
    return found


def paired(comparison: Comparison, variant: str = "d3gan") -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in comparison.document["paired"] if c["variant"] == variant)
    return found


def table(comparison: Comparison, name: str) -> list[dict[str, str]]:
    return table_cells(next(table for table in comparison.tables if table.name == name))


def table_cells(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, (cell.text for cell in row), strict=True)) for row in table.rows]


def test_known_curves_give_known_ratios(paths: list[Path]) -> None:
    found = paired(compare_runs(paths))
    assert found["baseline"] == "dcgan"
    assert found["seeds"] == [0, 1, 2]
    # After 1,000 steps: 100 / 2^5 over 100 / 2^2.5.
    assert found["equal"]["iteration"]["interval"]["mean"] == pytest.approx(2**-2.5)
    # DCGAN ends after 100 s; D3GAN has done 666.7 steps by then: between its evaluations at 600 and 700, straight.
    at_100 = 2**-3 + (2**-3.5 - 2**-3) * 2 / 3
    assert found["equal"]["seconds"]["interval"]["mean"] == pytest.approx(at_100 / 2**-2.5)
    hardest = found["targets"][0]
    assert hardest["value"] == 22.0  # the worst of the best: 120 / 2^2.5 = 21.2, rounded up
    assert hardest["ratios"]["iteration"]["interval"]["mean"] == pytest.approx(0.5)
    assert hardest["ratios"]["seconds"]["interval"]["mean"] == pytest.approx(0.75)
    assert hardest["ratios"]["flops"]["interval"]["mean"] == pytest.approx(0.5 * 876961792 / 568655872)


def test_the_verdict_says_how_long_and_how_sure(paths: list[Path]) -> None:
    verdict = compare_runs(paths).verdict
    assert "d3gan reaches FID (inception, train) 22.0 in 0.75 (95 %: 0.75 to 0.75) of dcgan's time" in verdict
    assert "3 seeds" in verdict
    assert "decides nothing" not in verdict
    assert "one seed decides nothing" in compare_runs(paths[:2]).verdict
    assert "nothing to compare" in compare_runs(paths[:1]).verdict


@pytest.mark.parametrize(
    ("half", "said"),
    [
        (150, "The second discriminator pays: d3gan-controlled reaches FID (inception, train)"),
        (600, "The second discriminator does not pay: d3gan-controlled reaches"),
        (300, "Whether the second discriminator pays is undecided: d3gan-controlled reaches"),
    ],
)
def test_only_a_pair_without_other_differences_answers_the_question(half: int, said: str, tmp_path: Path) -> None:
    found = []
    for seed in range(3):
        swing = 1 + 0.2 * seed
        for model, steps in (("dcgan-controlled", 300.0), ("d3gan-controlled", half * swing / 1.2), ("d3gan", 100.0)):
            curve = falling(100, steps)
            found.append(write_run(tmp_path / f"{model}-{seed}", curve, model=model, seed=seed))
    verdict = compare_runs(found).verdict
    assert verdict.startswith(said)
    assert "d3gan reaches FID" in verdict, "the verdict names the other pair too"
    models = ("dcgan-controlled", "d3gan-controlled")
    several = [write_run(tmp_path / f"svhn-{m}", falling(100, 300), dataset="svhn", model=m) for m in models]
    verdict = compare_runs([*found, *several]).verdict
    assert "mnist, batch size 64: time to FID" in verdict


def test_a_pair_that_differs_in_more_answers_no_question(tmp_path: Path) -> None:
    names = {"dcgan-controlled": {}, "d3gan-controlled": {"lr": 0.001}}
    found = []
    for model, changes in names.items():
        for seed in range(3):
            half = 300 if changes else 100
            folder = tmp_path / f"{model}{'+lr=0.001' * bool(changes)}-{seed}"
            found.append(write_run(folder, falling(100 + seed, half), model=model, seed=seed, **changes))
    assert compare_runs(found).verdict.startswith("d3gan-controlled+lr=0.001 reaches FID")


def test_each_pair_has_a_short_line(paths: list[Path], tmp_path: Path) -> None:
    (line,) = compare_runs(paths).lines
    assert line == ("Faster", f"d3gan takes 0.75 (0.75 to 0.75) times as long as dcgan to the same FID.{MORE}")
    (line,) = compare_runs(paths[:2]).lines
    assert line == ("Undecided (one seed)", f"d3gan takes 0.75 times as long as dcgan to the same FID.{MORE}")
    assert not compare_runs(paths[:1]).lines
    for seed in range(3):
        for model, half in (("dcgan-controlled", 300), ("d3gan-controlled", 600)):
            for dataset in ("mnist", "svhn"):
                folder = tmp_path / f"{dataset}-{model}-{seed}"
                half = 150 if dataset == "svhn" and model == "d3gan-controlled" else half
                paths.append(write_run(folder, falling(100 + seed, half), model=model, seed=seed, dataset=dataset))
    lines = compare_runs(paths).lines
    assert [line.answer for line in lines] == ["Mixed", "Faster"], "the pair that answers the question comes first"
    sentence = "d3gan-controlled against dcgan-controlled under 2 conditions: pays in 1, does not pay in 1."
    assert lines[0].sentence == sentence
    mnist = [path for path in paths if path.name.startswith("mnist")]
    assert compare_runs(mnist).lines[0].answer == "Does not pay"


def test_without_a_common_fid_the_line_is_of_equal_time(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "dcgan", lambda _: 100.0, model="dcgan")]
    runs.append(write_run(tmp_path / "d3gan", lambda _: 50.0, model="d3gan"))
    (line,) = compare_runs(runs).lines
    assert line == ("Undecided (one seed)", f"after equal time d3gan's FID is 0.50 times dcgan's.{MORE}")


def test_without_common_seconds_the_line_is_of_equal_iterations(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "dcgan", lambda _: 100.0, model="dcgan")]
    runs.append(write_run(tmp_path / "d3gan", lambda _: 50.0, seconds_per_step=20, model="d3gan"))
    (line,) = compare_runs(runs).lines
    assert line == ("Undecided (one seed)", f"after equal iterations d3gan's FID is 0.50 times dcgan's.{MORE}")


def test_figures_name_variants_by_what_tells_them_apart() -> None:
    own, swapped = "d3gan+pairing=own+weighting=mean", "d3gan+pairing=swapped+weighting=mean"
    assert short_names([own, swapped]) == {own: "pairing=own", swapped: "pairing=swapped"}
    assert short_names(["dcgan", "dcgan+lr=0.1"]) == {"dcgan": "dcgan", "dcgan+lr=0.1": "dcgan+lr=0.1"}
    assert short_names([own, "gman+weighting=mean"]) == {own: "d3gan+pairing=own", "gman+weighting=mean": "gman"}
    assert short_names([own]) == {own: own}
    assert wrapped(own, 20) == "d3gan+pairing=own\n+weighting=mean"
    assert wrapped("short", 3) == "short"


def test_tables_hold_the_same(paths: list[Path]) -> None:
    comparison = compare_runs(paths)
    final = {row["variant"]: row for row in table(comparison, "final")}
    assert final["dcgan"]["seconds of training"] == "100 (100 to 100)"
    assert final["d3gan"]["images/s"].startswith("427 ")
    assert final["d3gan"]["arithmetic"] == "56.1 TFLOP"
    assert final["d3gan"]["FID (inception, train)"].startswith("3.43 (")  # geometric mean of 100, 110, 120 over 32
    behaviour = {row["variant"]: row for row in table(comparison, "behaviour")}
    assert behaviour["d3gan"]["generator's loss with FID"].startswith("-0.990")  # rises while the FID falls
    assert behaviour["d3gan"]["largest weight"] == "0.80"
    assert (
        behaviour["d3gan"]["gap of the discriminators"] == "0.86"
    )  # 1.5 over 1.75: swapped, the losses are 1.0 and 2.5
    assert behaviour["dcgan"]["gap of the discriminators"] == "-"


def test_it_can_be_compared_with_another_variant(paths: list[Path]) -> None:
    found = paired(compare_runs(paths, against="d3gan"), "dcgan")
    assert found["targets"][0]["ratios"]["seconds"]["interval"]["mean"] == pytest.approx(4 / 3)
    with pytest.raises(ConfigError, match=r"--against d3gna: no such run \(did you mean 'd3gan'\?\)"):
        compare_runs(paths, against="d3gna")


def test_controlled_pairs_find_each_other(tmp_path: Path) -> None:
    models = ("dcgan", "d3gan", "dcgan-controlled", "d3gan-controlled")
    runs = [write_run(tmp_path / model, falling(100, 300), model=model) for model in models]
    pairs = [(c["variant"], c["baseline"]) for c in compare_runs(runs).document["paired"]]
    assert pairs == [("d3gan-controlled", "dcgan-controlled"), ("d3gan", "dcgan")]


def test_variants_are_named_after_what_differs(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", falling(100, 300), model="dcgan")
    mish = write_run(tmp_path / "mish", falling(100, 300), model="dcgan", activation="mish")
    slow = write_run(tmp_path / "slow", falling(100, 300), model="dcgan", lr=1e-4)
    other = write_run(tmp_path / "other", falling(100, 300), model="dcgan", lr=1e-4, dataset="cifar10")
    names = [run.variant for run in read_runs([one, mish, slow, other])]
    assert names == ["dcgan", "dcgan+activation=mish", "dcgan+lr=0.0001", "dcgan"]
    assert [run.variant for run in read_runs([one, mish])] == ["dcgan", "dcgan+activation=mish"]


def test_folders_say_which_keys_were_varied(tmp_path: Path) -> None:
    """Most runs have the larger rate, and yet it is the variant, as `d3gan compare` named the folders."""
    variants: dict[str, dict[str, Any]] = {
        "dcgan": {},
        "dcgan+lr=0.001": {"lr": 0.001},
        "d3gan+lr=0.001": {"lr": 0.001},
        "dcgan+device=cuda:1": {"device": "cuda:1"},
        "dcgan+ema=0.9+generator=raw": {"ema": 0.9, "generator": "raw"},
    }
    names, paths = list(variants), []
    for name, changes in variants.items():
        folder = tmp_path / f"mnist-{name.replace(':', '-')}-b64-s0"
        paths.append(write_run(folder, falling(100, 300), model=name[:5], **changes))
    assert [run.variant for run in read_runs(paths)] == names
    assert [run.variant for run in read_runs(paths[:3])] == names[:3]
    comparisons = compare_runs(paths, against="dcgan+lr=1e-3").document["paired"]
    pairs = [(each["variant"], each["baseline"]) for each in comparisons]
    assert ("d3gan+lr=0.001", "dcgan+lr=0.001") in pairs


def test_a_run_trained_elsewhere_is_no_variant(tmp_path: Path) -> None:
    elsewhere: dict[str, Any] = {"device": "cuda", "compile": "on", "num_samples": 100}
    one = write_run(tmp_path / "one", falling(100, 300), model="dcgan", seed=0)
    two = write_run(tmp_path / "two", falling(100, 300), model="dcgan", seed=1, **elsewhere)
    file = RunDirectory(two).environment
    file.write_text(file.read_text().replace('"device": "cpu"', '"device": "cuda:0", "compile": true'))
    assert [run.variant for run in read_runs([one, two])] == ["dcgan", "dcgan"]
    remarks = "\n".join(compare_runs([one, two]).remarks)
    assert "runs differ in the device, so seconds are not comparable: cpu, cuda:0" in remarks
    again = write_run(tmp_path / "again", falling(100, 300), model="dcgan", seed=0, **elsewhere)
    remark = "\n".join(compare_runs([one, again]).remarks)
    assert (
        "Left out, since another run has the same variant and seed: again. They differ in device, compile" in remark
    )
    assert "to compare them, put +device=VALUE into the folder's name." in remark
    named = again.rename(tmp_path / "again+device=cuda")
    assert [run.variant for run in read_runs([one, named])] == ["dcgan", "dcgan+device=cuda"]


def test_accumulating_is_compared_with_not_accumulating(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", falling(100, 300), model="dcgan")
    larger = write_run(tmp_path / "larger", falling(100, 200), model="dcgan", grad_accum_steps=2)
    file = RunDirectory(larger).metrics
    file.write_text(file.read_text().replace('"global_batch_size": 64', '"global_batch_size": 128'))
    comparison = compare_runs([one, larger])
    assert paired(comparison, "dcgan+grad_accum_steps=2")["condition"] == "mnist, batch size 64"
    remark = "runs differ in the images per step, so equal iterations are not equal images: 128, 64"
    assert remark in "\n".join(comparison.remarks)
    # Two processes of one batch each make the same step as one process of two.
    both = write_run(tmp_path / "both", falling(100, 200), model="dcgan", seed=1)
    for file in (RunDirectory(both).metrics, RunDirectory(both).environment):
        text = file.read_text().replace('"global_batch_size": 64', '"global_batch_size": 128')
        file.write_text(text.replace('"world_size": 1', '"world_size": 2'))
    assert [run.variant for run in read_runs([larger, both])] == ["dcgan", "dcgan"]
    (condition,) = compare_runs([larger, both]).document["conditions"]
    assert condition["batch_size"] == 128


def test_a_run_that_collapses_leaves_no_time_to_compare(tmp_path: Path) -> None:
    dcgan = [write_run(tmp_path / f"c{s}", falling(100, 300), model="dcgan", seed=s) for s in range(2)]
    d3gan = [write_run(tmp_path / "d0", lambda _: 200.0, model="d3gan", seed=0)]
    d3gan += [write_run(tmp_path / "d1", falling(100, 300), model="d3gan", seed=1)]
    comparison = compare_runs([*dcgan, *d3gan])
    assert paired(comparison)["targets"] == []  # the collapsed run's best is worse than where the others start
    assert "no FID below those at the start is reached by all runs" in comparison.verdict
    assert math.isfinite(paired(comparison)["equal"]["iteration"]["interval"]["mean"])


def test_what_makes_a_comparison_weak_is_said(paths: list[Path], tmp_path: Path) -> None:
    short = write_run(tmp_path / "short", falling(100, 300), model="d3gan", seed=7)
    RunDirectory(short).evaluations.write_text("")
    environment = json.loads(RunDirectory(paths[0]).environment.read_text())
    environment["sessions"][0]["threads"] = 2
    RunDirectory(paths[0]).environment.write_text(json.dumps(environment))
    remarks = "\n".join(compare_runs([*paths, short]).remarks)
    assert "without FID (inception, train), so not compared: short" in remarks
    assert "runs differ in the number of threads, so seconds are not comparable: 1, 2" in remarks
    again = write_run(tmp_path / "again", falling(100, 300), model="dcgan", seed=0)
    remarks = "\n".join(compare_runs([*paths, again]).remarks)
    assert "Left out, since another run has the same variant and seed: again." in remarks
    assert "a variant has only 2 seeds" in "\n".join(compare_runs(paths[:4]).remarks)


def test_what_an_evaluation_could_not_compute_is_said(paths: list[Path]) -> None:
    file = RunDirectory(paths[0]).evaluations
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in (lines[3], lines[-1]):
        del line[FID]
        line["not_computed"] = {"fid": "12 of 800 numbers of the features are NaN"}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    comparison = compare_runs(paths)
    said = "FID not computed at 2 of 10 evaluations, first at step 400: 12 of 800 numbers of the features are NaN"
    assert any(f"{paths[0].name}: {said}" in remark for remark in comparison.remarks)
    # That run has no final value.
    final = next(row for row in table(comparison, "final") if row["variant"] == "dcgan")
    others = [100 * (1 + 0.1 * seed) * 0.5 ** (1000 / 400) for seed in (1, 2)]
    assert final["FID (inception, train)"].startswith(f"{math.sqrt(others[0] * others[1]):.1f}")
    row = next(row for row in table_cells(runs_table(comparison.runs)) if row["run"] == paths[0].name)
    assert row["FID (inception, train)"] == "not computed"


def test_torn_and_foreign_lines_are_left_out(paths: list[Path]) -> None:
    whole = compare_runs(paths).document["paired"]
    for path in paths:
        for file in (RunDirectory(path).metrics, RunDirectory(path).evaluations):
            file.write_text("7\n" + file.read_text() + '{"step": 1100, "fid_in')
    assert compare_runs(paths).document["paired"] == whole
    RunDirectory(paths[0]).config.write_text("# Written by d3gan: the config of the run in this folder.\nnothing")
    with pytest.raises(ExternalError, match="cannot be read"):
        compare_runs(paths)
    with pytest.raises(ConfigError, match="holds no run"):
        compare_runs([paths[0].parent / "nowhere"])


def test_values_that_are_not_finite_are_left_out(paths: list[Path]) -> None:
    file = RunDirectory(paths[0]).evaluations
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[-1][FID] = math.nan
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = paired(compare_runs(paths))["equal"]["iteration"]["interval"]
    assert math.isfinite(found["mean"])
    json.dumps(compare_runs(paths).document, allow_nan=False)


def test_everything_is_written(paths: list[Path], tmp_path: Path) -> None:
    comparison = compare_runs(paths)
    written = write_comparison(comparison, tmp_path / "out")
    assert json.loads((tmp_path / "out/comparison.json").read_text())["verdict"] == comparison.verdict
    names = {drawing.name for drawing in comparison.drawings}
    assert {path.stem for path in written if path.suffix == ".png"} == names
    # As many iterations are as many images, and the Inception Score says nothing of digits: tables have both.
    assert {name for name in names if "-by-" in name} == {
        f"fid-by-{x}-mnist-b64" for x in ("iteration", "seconds", "flops")
    }
    assert {"time-to-fid", "time-to-fid-ratios", "equal-cost-ratios"} <= names
    kinds = {
        "loss-generator",
        "loss-discriminators",
        "weights",
        "gap-of-discriminators",
        "correlation-of-loss-and-fid",
    }
    assert {f"{kind}-mnist-b64" for kind in kinds} <= names
    for path in written:
        if path.suffix == ".svg":
            ElementTree.parse(path)
        assert path.stat().st_size > 1000
    assert write_comparison(comparison, tmp_path / "again")
    for path in written:
        again = tmp_path / "again" / path.relative_to(tmp_path / "out")
        assert again.read_bytes() == path.read_bytes(), "the same runs make the same files"


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Path:
    """A run whose metrics are others."""
    file = RunDirectory(path).metrics
    lines = change([json.loads(line) for line in file.read_text().splitlines()])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def figure(comparison: Comparison, name: str) -> Any:
    return next(drawing for drawing in comparison.drawings if drawing.name == name).draw().axes[0]


def test_a_figure_says_which_axes_it_stands_for(paths: list[Path]) -> None:
    comparison = compare_runs(paths)
    series = [(each.name, each.axis) for each in comparison.drawings if each.series]
    assert series == [
        ("fid-by-iteration-mnist-b64", "iterations, images"),
        ("fid-by-seconds-mnist-b64", "seconds"),
        ("fid-by-flops-mnist-b64", "FLOPs"),
    ]
    assert figure(comparison, "fid-by-iteration-mnist-b64").get_xlabel() == "iterations of 64 real images"
    dcgan = compare_runs(paths[::2])
    # Of one model seconds and operations only stretch the axis.
    assert [each.axis for each in dcgan.drawings if each.series] == ["iterations, images, seconds, FLOPs"]


def test_variants_of_unequal_batches_keep_the_axis_of_images(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", falling(100, 300), model="dcgan")
    more = write_run(tmp_path / "more", falling(100, 200), model="dcgan", d_steps=2)
    file = RunDirectory(more).evaluations
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line | {"images_seen": 2 * line["images_seen"]}) + "\n" for line in lines))
    assert "fid-by-images-mnist-b64" in {drawing.name for drawing in compare_runs([one, more]).drawings}


@pytest.mark.parametrize(("dataset", "drawn"), [("mnist", False), ("svhn", False), ("cifar10", True)])
def test_the_inception_score_is_drawn_where_it_says_something(dataset: str, drawn: bool, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", falling(100, 300), dataset=dataset)
    comparison = compare_runs([run])
    assert any(drawing.name.startswith("is-by-") for drawing in comparison.drawings) == drawn
    assert "IS (inception)" in table(comparison, "final")[0], "the table has it all the same"
    file = RunDirectory(run).evaluations
    file.write_text(file.read_text().replace("inception", "efficientnet-lite0"))
    assert not any(drawing.name.startswith("is-by-") for drawing in compare_runs([run]).drawings)


def test_a_last_tick_of_fewer_steps_draws_no_spike(paths: list[Path]) -> None:
    """Eleven steps after the last whole tick have a loss of their own, which is no step of the curve."""

    def longer(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = lines[-1] | {"step": 1011, "generator_loss": 500.0, "weights": [1.0, 0.0]}
        return [*lines, last | {"real_losses": [90.0, 0.0], "training_seconds": 500.0}]

    rewritten(paths[1], longer)
    comparison = compare_runs(paths[:2])
    for name in ("loss-generator", "loss-discriminators", "gap-of-discriminators", "weights"):
        axes = figure(comparison, f"{name}-mnist-b64")
        assert max(max(line.get_xdata()) for line in axes.get_lines()) <= 1000, name
    assert figure(comparison, "loss-generator-mnist-b64").get_ylim()[1] < 20
    # What it adds up to is in the tables.
    d3gan = next(row for row in table(comparison, "final") if row["variant"] == "d3gan")
    assert d3gan["seconds of training"] == "500"
    assert (
        next(row for row in table(comparison, "behaviour") if row["variant"] == "d3gan")["largest weight"] == "0.80"
    )


def test_a_short_tick_weighs_less_in_the_loss_before_an_evaluation() -> None:
    training = {"iteration": np.array([50.0, 100.0, 110.0]), "generator_loss": np.array([1.0, 2.0, 8.0])}
    evaluation = {"iteration": np.array([50.0, 110.0]), FID: np.array([9.0, 3.0])}
    assert losses_at_evaluations(training, evaluation, "generator_loss", FID) == ([1.0, 3.0], [9.0, 3.0])


def test_there_is_no_figure_with_nothing_to_see(paths: list[Path]) -> None:
    for path in paths[:2]:
        rewritten(path, lambda lines: lines[:1])
        file = RunDirectory(path).evaluations
        file.write_text(file.read_text().splitlines()[0] + "\n")
    names = {drawing.name for drawing in compare_runs(paths[:2]).drawings}
    assert names == {"equal-cost-ratios"}, "a run of one tick has no curve"
    names = {drawing.name for drawing in compare_runs(paths[2:]).drawings}
    assert not any(name.startswith("throughput") for name in names), "one batch size is in the table"
    for path in paths[3::2]:
        rewritten(path, lambda lines: [line | {"weights": [0.5, 0.5]} for line in lines])
    assert "weights-mnist-b64" in names
    assert "weights-mnist-b64" not in {drawing.name for drawing in compare_runs(paths[2:]).drawings}


def test_captions_promise_only_the_bands_that_there_are(paths: list[Path]) -> None:
    for runs in (paths[:2], paths):
        for each in compare_runs(runs).tables:
            if each.name in ("final", "reach"):
                assert ("Student" in each.caption) == (len(runs) > 2), each.name
        for drawing in compare_runs(runs).drawings:
            promised = "interval" in drawing.caption and "no interval" not in drawing.caption
            axes = drawing.draw().axes[0]
            intervals = [line for line in axes.get_lines() if line.get_linewidth() == 2.2]
            has_bands = bool(axes.collections or intervals)
            assert promised == has_bands, drawing.name


def test_the_better_side_of_ratios_is_named_and_labels_are_short(paths: list[Path]) -> None:
    for name, words in (("equal-cost-ratios", "better"), ("time-to-fid-ratios", "sooner")):
        axes = figure(compare_runs(paths), name)
        assert (axes.get_title(loc="left"), axes.get_title(loc="right")) == (
            f"← variant {words}",
            f"baseline {words} →",
        )
        assert [label.get_text() for label in axes.get_yticklabels()] == ["iterations", "seconds", "FLOPs"]
        assert [text.get_text() for text in axes.texts] == ["d3gan / dcgan"]


def test_runs_have_one_order_everywhere(paths: list[Path], tmp_path: Path) -> None:
    paths.append(write_run(tmp_path / "controlled", falling(100, 200), model="dcgan-controlled", seed=0))
    comparison = compare_runs(paths[::-1])
    order = list(dict.fromkeys(run.variant for run in comparison.runs))
    assert order == ["dcgan", "dcgan-controlled", "d3gan"]
    assert [row["variant"] for row in table(comparison, "final")] == order
    legend = figure(comparison, "fid-by-seconds-mnist-b64").get_legend_handles_labels()[1]
    assert legend == order
    colors = {}
    for name in ("fid-by-seconds", "weights"):  # dcgan has no weights, and d3gan keeps its color
        line = next(
            line for line in figure(comparison, f"{name}-mnist-b64").get_lines() if "d3gan" in line.get_label()
        )
        colors[line.get_color()] = name
    assert len(colors) == 1


def test_data_sets_may_be_measured_against_other_references(paths: list[Path], tmp_path: Path) -> None:
    """A folder of images has no test split: its metrics have other names, and are compared with each other."""
    for model, half in (("dcgan", 400.0), ("d3gan", 200.0)):
        path = write_run(tmp_path / f"photos-{model}", falling(100, half), model=model, dataset="photos")
        file = RunDirectory(path).evaluations
        file.write_text(file.read_text().replace(FID, "fid_inception_all"))
        paths.append(path)
    comparison = compare_runs(paths)
    found = {c["condition"]: c for c in comparison.document["paired"]}
    assert set(found) == {"mnist, batch size 64", "photos, batch size 64"}
    assert found["photos, batch size 64"]["equal"]["iteration"]["interval"]["mean"] == pytest.approx(2**-2.5)
    final = {(row["data set"], row["variant"]): row for row in table(comparison, "final")}
    assert final["photos", "d3gan"]["FID"] == "3.12"
    assert "photos: FID (inception, all)" in next(t for t in comparison.tables if t.name == "final").caption
    assert not any("not compared" in remark for remark in comparison.remarks)


def test_batch_sizes_are_drawn_together(paths: list[Path], tmp_path: Path) -> None:
    larger = write_run(tmp_path / "larger", falling(100, 300), model="dcgan", seed=0, batch_size=256)
    lines = [
        json.loads(line) | {"global_batch_size": 256}
        for line in RunDirectory(larger).metrics.read_text().splitlines()
    ]
    RunDirectory(larger).metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    comparison = compare_runs([*paths, larger])
    assert {s["batch_size"] for s in comparison.document["conditions"]} == {64, 256}
    drawing = next(d for d in comparison.drawings if d.name == "fid-by-iteration-mnist-dcgan-batch-sizes")
    labels = drawing.draw().axes[0].get_legend_handles_labels()[1]
    assert labels == ["batch size 64", "batch size 256"]
    assert "throughput-by-batch-size-mnist" in {drawing.name for drawing in comparison.drawings}


def test_published_curves_are_drawn_with_ours(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", falling(100, 300), model="d3gan", dataset="cifar10")
    file = RunDirectory(path).evaluations
    lines = [json.loads(line) | {PUBLISHED_FID: 1.5} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawings = {d.name: d for d in compare_runs([path]).drawings}
    drawing = drawings["fid-as-published-by-iteration-cifar10-b64"]
    assert "12 runs that the published programs logged" in drawing.caption
    axes = drawing.draw().axes[0]
    assert {"published d3gan", "published dcgan", "d3gan"} <= set(axes.get_legend_handles_labels()[1])
    # The first published value of D3GAN at this batch size; it belongs to the first epoch, 500 steps of this run.
    first = next(line for line in axes.get_lines() if line.get_label() == "published d3gan")
    assert first.get_xdata()[0] == pytest.approx(500)  # type: ignore[index]


def test_scaling_figures_are_included(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "scaling").mkdir()
    (tmp_path / "scaling" / "scaling.json").write_text(json.dumps(document((1, 2), (64,))))
    comparison = compare_runs(paths, scaling=str(tmp_path / "scaling"))
    drawings = {drawing.name: drawing for drawing in comparison.drawings}
    assert {"scaling-throughput", "scaling-epoch_time", "scaling-speedup"} <= set(drawings)
    assert drawings["scaling-throughput"].draw().axes
    with pytest.raises(ConfigError, match="is no document of `d3gan scale`"):
        compare_runs(paths, scaling=str(tmp_path))
