"""Which runs a comparison is made of."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from d3gan.cli import main
from d3gan.comparison.cost import flops_an_image
from d3gan.comparison.grid import grid_of
from d3gan.comparison.options import ABLATION, Compare, parse_variant
from d3gan.comparison.reading import variant_of
from d3gan.comparison.running import Place, places_for
from d3gan.config import Recipe, TrainConfig
from d3gan.errors import ConfigError
from d3gan.flags import parse_flags


def options(*words: str) -> Compare:
    found: Compare = parse_flags(Compare, ["--max-steps=1000", *words], "d3gan compare")
    return found


def names(found: Compare) -> list[str]:
    return [Path(config.out).name for config in grid_of(found)]


def test_lists_take_words_and_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = options(
        "--models", "dcgan", "d3gan", "--seeds", "0,1", "--batch-sizes=64,128", "--datasets", "mnist", "svhn"
    )
    assert (found.models, found.seeds, found.batch_sizes) == (("dcgan", "d3gan"), (0, 1), (64, 128))
    assert found.datasets == ("mnist", "svhn")
    assert len(grid_of(found)) == 2 * 2 * 2 * 2
    assert names(found)[:3] == ["mnist-dcgan-b64-s0", "mnist-d3gan-b64-s0", "mnist-dcgan-b64-s1"]
    assert grid_of(found)[0].out == "comparison/runs/mnist-dcgan-b64-s0"


def test_defaults_are_a_pair_and_three_seeds() -> None:
    assert names(options()) == [f"mnist-{m}-b128-s{s}" for s in range(3) for m in ("dcgan", "d3gan")]
    assert names(options("--model=d3gan-controlled", "--seed=5"))[:3] == [
        "mnist-dcgan-controlled-b128-s5",
        "mnist-d3gan-controlled-b128-s5",
        "mnist-dcgan-controlled-b128-s6",
    ]


def test_runs_of_a_comparison_are_evaluated_and_sampled() -> None:
    config = grid_of(options())[0]
    assert (config.evaluate_every, config.sample_every, config.max_steps) == (100, 100, 1000)
    config = grid_of(options("--evaluate-every=250", "--sample-every=50"))[0]
    assert (config.evaluate_every, config.sample_every) == (250, 50)
    with pytest.raises(ConfigError, match="evaluate_every = 0: a comparison needs evaluations"):
        grid_of(parse_flags(Compare, [], "d3gan compare"))


def test_variants_change_one_key(tmp_path: Path) -> None:
    (config,) = grid_of(options("--models=dcgan+activation=mish+lr=0.001", "--seeds=0"))
    assert config.recipe.activation == "mish"
    assert config.lr == 0.001
    assert Path(config.out).name == "mnist-dcgan+activation=mish+lr=0.001-b128-s0"
    assert variant_of(config, {"lr"}) == "dcgan+activation=mish+lr=0.001"


def test_a_variant_has_one_name_however_it_is_written() -> None:
    found = options(
        "--models", "dcgan+lr=1e-3+activation=mish", "dcgan+activation=mish+lr=0.001", "dcgan+pairing=swapped"
    )
    assert found.variant_names == ["dcgan+activation=mish+lr=0.001", "dcgan"]
    assert options("--models", "dcgan", "dcgan+lr=1e-3", "--against", "dcgan+lr=0.001").against


def test_ablation_changes_one_thing_at_a_time() -> None:
    base = grid_of(options("--ablation", "--seeds=0"))[0].recipe
    assert base == TrainConfig(model="dcgan-controlled").recipe
    d3gan = TrainConfig(model="d3gan-controlled").recipe
    changed = set()
    for config in grid_of(options("--ablation", "--seeds=0"))[1:]:
        root = base if config.model == "dcgan-controlled" else d3gan
        differing = [
            f.name for f in dataclasses.fields(Recipe) if getattr(config.recipe, f.name) != getattr(root, f.name)
        ]
        assert len(differing) == (config.recipe != d3gan), config.out
        changed |= set(differing)
    assert changed == {"activation", "schedule", "discriminators", "pairing", "selection"}
    assert len({Path(config.out).name for config in grid_of(options("--ablation"))}) == 3 * len(ABLATION)


def test_equal_flops_spend_the_same() -> None:
    found = grid_of(
        options("--equal=flops", "--seeds=0", "--epochs=10", "--models", "dcgan", "d3gan", "--against=d3gan")
    )
    spent = [config.max_steps * flops_an_image(config) for config in found]
    assert spent[0] == pytest.approx(spent[1], rel=1e-3)
    assert found[1].max_steps == 1000
    assert found[0].max_steps == 1542  # 876,961,792 / 568,655,872 times as many
    assert found[0].epochs == 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "dcgn"], r"--models dcgn: 'dcgn' is unknown \(did you mean 'dcgan'\?\)"),
        (["--models", "dcgan+mish"], "must be key=value"),
        (["--models", "dcgan+activaton=mish"], r"unknown key 'activaton' \(did you mean 'activation'\?\)"),
        (["--models", "dcgan+activation=mush"], "activation = 'mush': must be relu, mish"),
        (["--models", "dcgan+nz=0"], r"--models dcgan\+nz=0: nz = 0: must be"),
        (["--models", "dcgan+seed=3"], "unknown key 'seed'"),
        (["--seeds", "0", "x"], "--seeds = 'x': must be a whole number"),
        (["--seeds", "--ablation"], "--seeds: needs a value: one or more, each a whole number"),
        (["--seeds="], "--seeds: needs a value"),
        (["--batch-sizes", "1"], "batch_sizes = 1: must be at least 2"),
        (["--ablation", "--models", "dcgan"], "--ablation and --models: give one of them"),
        (["--against", "dcgn"], r"--against dcgn: is none of the variants \(did you mean 'dcgan'\?\)"),
        (["--datasets", "/a/mnist", "/b/mnist"], "two runs of the grid would be kept there"),
    ],
)
def test_bad_values_get_one_line(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        grid_of(options(*words))


def test_what_goes_along_is_looked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (["--runs", "nowhere"], "nowhere: holds no run of d3gan"),
        (["--scaling", "nowhere"], "--scaling nowhere: nowhere/scaling.json is no document of `d3gan scale`"),
    ):
        assert main(["compare", "--max-steps=10", *words]) == 2
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_parsing_a_variant() -> None:
    assert parse_variant("d3gan") == ("d3gan", {})
    assert parse_variant("d3gan+discriminators=3") == ("d3gan", {"discriminators": 3})


def test_a_dry_run_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--dry-run", "--max-steps=100", "--seeds=0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "mnist-dcgan-b128-s0: to be trained",
        "mnist-d3gan-b128-s0: to be trained",
    ]
    assert list(tmp_path.iterdir()) == []


def test_gpus_get_a_run_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    places = [place.environment["CUDA_VISIBLE_DEVICES"] for place in places_for(0, "auto", 8)]
    assert places == ["3", "5"]
    assert [p.environment["CUDA_VISIBLE_DEVICES"] for p in places_for(3, "cuda", 8)] == ["3", "5", "3"]
    assert len(places_for(0, "cuda", 1)) == 1
    assert places_for(0, "cuda:1", 8) == [Place({})], "the one that was asked for"


def test_cpus_share_out_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cores, at_once, threads in ((1, 1, None), (2, 2, "1"), (16, 8, "2"), (64, 8, "8")):
        monkeypatch.setattr("psutil.cpu_count", lambda logical, cores=cores: cores)
        places = places_for(0, "cpu", 100)
        assert len(places) == at_once
        assert places[0].environment.get("OMP_NUM_THREADS") == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert places_for(2, "cpu", 100) == [Place({}), Place({})], "the user's own number stays"
