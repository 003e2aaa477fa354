"""Which runs a comparison is made of."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from d3gan.cli import main
from d3gan.comparison.flops import flops_per_image
from d3gan.comparison.variants import parse_variant, variant_of
from d3gan.config.command_line import parse_flags
from d3gan.config.ini import config_text
from d3gan.config.recipes import MODELS, Recipe
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError
from d3gan.sweep.options import ABLATION, Compare
from d3gan.sweep.plan import sweep_configs
from d3gan.sweep.scheduler import Scheduler, Slot, slots_for


def options(*words: str) -> Compare:
    found: Compare = parse_flags(Compare, ["--max-steps=1000", *words], "d3gan compare")
    return found


def names(found: Compare) -> list[str]:
    return [Path(config.out).name for config in sweep_configs(found)]


def test_lists_take_words_and_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = options(
        "--models", "dcgan", "d3gan", "--seeds", "0,1", "--batch-sizes=64,128", "--datasets", "mnist", "svhn"
    )
    assert (found.models, found.seeds, found.batch_sizes) == (("dcgan", "d3gan"), (0, 1), (64, 128))
    assert found.datasets == ("mnist", "svhn")
    assert len(sweep_configs(found)) == 2 * 2 * 2 * 2
    assert names(found)[:3] == ["mnist-dcgan-b64-s0", "mnist-d3gan-b64-s0", "mnist-dcgan-b64-s1"]
    assert sweep_configs(found)[0].out == "comparison/runs/mnist-dcgan-b64-s0"


def test_defaults_are_a_pair_and_three_seeds() -> None:
    assert names(options()) == [f"mnist-{m}-b128-s{s}" for s in range(3) for m in ("dcgan", "d3gan")]
    assert names(options("--model=d3gan-controlled", "--seed=5"))[:3] == [
        "mnist-dcgan-controlled-b128-s5",
        "mnist-d3gan-controlled-b128-s5",
        "mnist-dcgan-controlled-b128-s6",
    ]


def test_runs_of_a_comparison_are_evaluated_and_sampled() -> None:
    config = sweep_configs(options())[0]
    assert (config.evaluate_every, config.sample_every, config.max_steps) == (100, 100, 1000)
    config = sweep_configs(options("--evaluate-every=250", "--sample-every=50"))[0]
    assert (config.evaluate_every, config.sample_every) == (250, 50)
    with pytest.raises(ConfigError, match="evaluate_every = 0: a comparison needs evaluations"):
        sweep_configs(parse_flags(Compare, [], "d3gan compare"))


def test_variants_change_one_key(tmp_path: Path) -> None:
    (config,) = sweep_configs(options("--models=dcgan+activation=mish+lr=0.001", "--seeds=0"))
    assert config.recipe.activation == "mish"
    assert config.lr == 0.001
    assert Path(config.out).name == "mnist-dcgan+activation=mish+lr=0.001-b128-s0"
    assert variant_of(config, {"lr"}) == "dcgan+activation=mish+lr=0.001"


def test_a_variant_has_one_name_however_it_is_written() -> None:
    found = options(
        "--models", "dcgan+lr=1e-3+activation=mish", "dcgan+activation=mish+lr=0.001", "dcgan+pairing=swapped"
    )
    assert list(found.variants) == ["dcgan+activation=mish+lr=0.001", "dcgan"]
    assert options("--models", "dcgan", "dcgan+lr=1e-3", "--against", "dcgan+lr=0.001").against


# A value other than the default for each key of the config.
OTHER_VALUES: dict[str, object] = {
    "model": "dcgan", "dataset": "svhn", "data_dir": "here", "out": "here", "radius": 2.0,
    "deviation": 0.1, "skip_damaged": "on", "network": "dcgan", "conditional": "on", "image_size": 64,
    "batch_size": 64, "grad_accum_steps": 2,
    "nz": 10, "ngf": 32, "ndf": 32, "nc": 1, "lr": 0.001, "lr_scaling": "linear", "beta1": 0.4,
    "beta2": 0.99, "lr_d": 0.001, "beta1_d": 0.4, "beta2_d": 0.99, "d_steps": 2, "epochs": 3, "max_steps": 5,
    "discriminators": 3, "pairing": "own", "weighting": "argmin", "softmax_lambda": "learned",
    "softmax_gradient": "off", "softmax_challenge": 0.01, "hypervolume_slack": 2.0, "dropout_rate": 0.2,
    "bandit_alpha": 0.5, "bandit_kappa": 5.0, "loss": "hinge", "d2gan_alpha": 0.5, "d2gan_beta": 0.5,
    "views": "projection,width", "duel_alpha": 0.2,
    # Of these a single discriminator has no use.
    "microbatch_alpha": "0.5+discriminators=2+views=slice", "duel_beta": "0.5+discriminators=2",
    "flips": "on", "augment": "translation,cutout", "ada_target": 0.5, "ada_length": 1000, "ada_p": 0.2,
    "ada_ramp_up": "500+ada_p=0.2",
    "penalty": "lecam:0.1", "lecam_start": 7, "discriminator_norm": "spectral", "diagnostics": "off",
    "activation": "mish", "sharded": "on", "swap_every": 2,
    "schedule": "constant", "checkpoint": 7, "log_every": 7, "sample_every": 7, "workers": 7, "seed": 7,
    "device": "cuda:1", "precision": "float64", "deterministic": "off", "compile": "on",
    "cuda_graph": "on", "sync_batchnorm": "on", "timeout": 7, "ema": 0.9, "ema_half_life": 500, "ema_ramp_up": 0.1,
    "evaluate_every": 7, "num_samples": 7, "metrics": "fid", "reference": "test", "features": "inception",
    "generator": "raw", "protocol": "published", "track": "wandb", "tensorboard": "on", "inception_weights": "no.pth",
}  # fmt: skip
NO_VARIANT_REASONS = {
    "model": "stands before the first +",
    "dataset": "--datasets",
    **dict.fromkeys(("radius", "deviation", "skip_damaged"), "decides the data"),
    "batch_size": "--batch-sizes",
    "seed": "--seeds",
    **dict.fromkeys(("epochs", "max_steps"), "the length that all runs share"),
    **dict.fromkeys(("out", "data_dir", "inception_weights"), "where files are"),
    **dict.fromkeys(
        ("checkpoint", "log_every", "diagnostics", "sample_every", "evaluate_every"), "how often something is written"
    ),
    **dict.fromkeys(("track", "tensorboard"), "a copy of the metrics"),
    **dict.fromkeys(("workers", "timeout"), "serves the process"),
    **dict.fromkeys(("metrics", "reference", "features", "protocol"), "which metrics there are"),
}


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(TrainConfig)])
def test_each_key_makes_a_variant_or_is_refused_by_name(
    key: str, monkeypatch: Any, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    word = f"dcgan+{key}={OTHER_VALUES[key]}"
    code = main(["compare", "--dry-run", "--max-steps=10", "--seeds=0", "--models", "dcgan", word])
    said = capsys.readouterr()
    if key in NO_VARIANT_REASONS:
        assert code == 2
        assert f"--models {word}: {key!r} makes no variant: it " in said.err
        assert NO_VARIANT_REASONS[key] in said.err
        assert "a variant can change image_size, grad_accum_steps, nz" in said.err
        return
    assert code == 0, said.err
    one, other = (line.partition(": ")[0] for line in said.out.splitlines())
    assert one == "mnist-dcgan-b128-s0"
    assert other.startswith("mnist-dcgan+")
    assert f"+{key}=" in other
    assert not set(other) & set('<>:"/\\|?*'), "every file system takes it"


@pytest.mark.parametrize("lr", [1e30, 1e-30, 5e-324, 1.7976931348623157e308, 0.1, 1.0, 0.0, 1e16, 12345678.9])
def test_every_number_has_a_name_that_means_it(lr: float) -> None:
    for text in (repr(lr), f"{lr:.17e}", f"+{lr!r}"):
        (name,) = options("--models", f"dcgan+lr={text}+nz=7").variants
        again = options("--models", name, "--seeds=0")
        assert list(again.variants) == [name]
        assert sweep_configs(again)[0].lr == lr
    assert "e+" not in name


@pytest.mark.parametrize("style", ["spaces", "commas"])
def test_a_variants_penalties_have_commas_of_their_own(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "d3gan",
        "d3gan+weighting=mean+penalty=r1:0.05",
        "d3gan+penalty=r1:0.05:16,r2",
        "dcgan+penalty=gp,lecam+lr=1",
    ]
    given = words if style == "spaces" else [",".join(words)]
    found = options("--discriminator-norm=none", "--models", *given, "--seeds=0")
    assert [(config.model, config.penalty) for config in sweep_configs(found)] == [
        ("d3gan", ""),
        ("d3gan", "r1:0.05"),
        ("d3gan", "r1:0.05:16,r2:0.01"),
        ("dcgan", "gp:10.0,lecam:0.3"),
    ]
    variants = [
        "d3gan",
        "d3gan+weighting=mean+penalty=r1:0.05",
        "d3gan+penalty=r1:0.05:16,r2:0.01",
        "dcgan+lr=1.0+penalty=gp:10.0,lecam:0.3",
    ]
    assert list(found.variants) == variants
    again = options("--discriminator-norm=none", "--models", ",".join(variants), f"--against={variants[-1]}")
    assert list(again.variants) == variants
    assert again.baseline == variants[-1]
    assert not set(names(found)[2]) & set('<>:"/\\|?*')


@pytest.mark.parametrize("style", ["spaces", "commas"])
def test_a_variants_views_have_commas_of_their_own(style: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "d3gan+views=dropout, slice+lr=0.5",
        "dropout-gan",
        "gman+views=same",
        "d3gan+penalty=lecam,r2+views=width,projection",
        "hgan+views=projection",
    ]
    given = words if style == "spaces" else [",".join(words)]
    found = options("--discriminator-norm=none", "--models", *given, "--seeds=0")
    variants = [
        "d3gan+views=slice,dropout+lr=0.5",
        "dropout-gan",
        "gman+views=same",
        "d3gan+views=projection,width+penalty=lecam:0.3,r2:0.01",
        "hgan",
    ]
    assert list(found.variants) == variants
    again = options("--discriminator-norm=none", "--models", ",".join(variants), f"--against={variants[0]}")
    assert list(again.variants) == variants
    assert [config.view_names for config in sweep_configs(found)] == [
        ("slice", "dropout"),
        (),
        (),
        ("projection", "width"),
        ("projection",),
    ]


def test_equal_penalties_are_one_variant() -> None:
    found = options("--discriminator-norm=none", "--models", "d3gan+penalty=r1", "d3gan+penalty=r1:0.010:1")
    assert list(found.variants) == ["d3gan+penalty=r1:0.01"]
    found = options(
        "--penalty=lecam", "--lr-d=1e-3", "--models", "d3gan+penalty=", "d3gan+lr_d=", "d3gan+penalty=lecam:0.3"
    )
    assert list(found.variants) == ["d3gan+penalty=", "d3gan+lr_d=", "d3gan"]


def test_words_that_mean_one_variant_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["dcgan", "dcgan+activation=relu", "dcgan+lr=0.001", "dcgan+lr=1e-3", "dcgan+lr=2e-4"]
    assert main(["compare", "--dry-run", "--max-steps=10", "--seeds=0", "--models", *words]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "dcgan+activation=relu is the same variant as dcgan here; it is trained once",
        "dcgan+lr=1e-3 is the same variant as dcgan+lr=0.001 here; it is trained once",
        "dcgan+lr=2e-4 is the same variant as dcgan here; it is trained once",
        "mnist-dcgan-b128-s0: to be trained",
        "mnist-dcgan+lr=0.001-b128-s0: to be trained",
    ]


def test_variants_are_named_by_how_they_differ_from_what_all_share() -> None:
    """A flag for all runs decides what a word changes, and the models are named by what they become."""
    found = options("--activation=mish", "--lr=0.001", "--ema=0.9", "--seeds=0", "--models", "dcgan", "d3gan",
                    "dcgan+activation=relu", "d3gan+lr=0.0002", "d3gan+lr=0.001", "d3gan+generator=ema",
                    "--against=dcgan")  # fmt: skip
    assert list(found.variants) == [
        "dcgan+activation=mish",
        "d3gan",
        "dcgan",
        "d3gan+lr=0.0002",
        "d3gan+generator=ema",
    ]
    assert [config.recipe.activation for config in sweep_configs(found)] == ["mish", "mish", "relu", "mish", "mish"]
    assert found.baseline == "dcgan+activation=mish"


def test_ablation_changes_one_thing_at_a_time() -> None:
    base = sweep_configs(options("--ablation", "--seeds=0"))[0].recipe
    assert base == TrainConfig(model="dcgan-controlled").recipe
    d3gan = TrainConfig(model="d3gan-controlled").recipe
    changed = set()
    for config in sweep_configs(options("--ablation", "--seeds=0"))[1:]:
        root = base if config.model == "dcgan-controlled" else d3gan
        differing = [
            f.name for f in dataclasses.fields(Recipe) if getattr(config.recipe, f.name) != getattr(root, f.name)
        ]
        assert len(differing) == (config.recipe != d3gan), config.out
        changed |= set(differing)
    assert changed == {"activation", "schedule", "discriminators", "pairing", "weighting"}
    assert len({Path(config.out).name for config in sweep_configs(options("--ablation"))}) == 3 * len(ABLATION)


def test_equal_flops_spend_the_same() -> None:
    found = sweep_configs(
        options("--equal=flops", "--seeds=0", "--epochs=10", "--models", "dcgan", "d3gan", "--against=d3gan")
    )
    spent = [config.max_steps * flops_per_image(config) for config in found]
    assert spent[0] == pytest.approx(spent[1], rel=1e-3)
    assert found[1].max_steps == 1000
    assert found[0].max_steps == 1542  # 876,961,792 / 568,655,872 times as many
    assert found[0].epochs == 16


def test_equal_flops_count_discriminator_steps() -> None:
    words = ("--equal=flops", "--seeds=0", "--epochs=10", "--models", "dcgan", "dcgan+d_steps=2")
    one, two = sweep_configs(options(*words))
    spent = [config.max_steps * config.images_per_step * flops_per_image(config) for config in (one, two)]
    assert spent[0] == pytest.approx(spent[1], rel=3e-3)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_model_is_compared_with_its_baseline(model: str) -> None:
    words = list(options(f"--model={model}", "--seeds=0").variants)
    assert model in words
    assert len(words) == 2
    pair = [MODELS[word] for word in words]  # type: ignore[index]
    if pair[0].discriminators == pair[1].discriminators:
        twin = dataclasses.replace(pair[1], weighting="mean", duel_beta=0.0, duel_alpha=0.0)
        assert twin == pair[0], "a twin differs in its rule or its duel alone"
    else:
        assert pair[0].discriminators == 1


def test_equal_flops_count_what_a_step_accumulates() -> None:
    words = (
        "--equal=flops",
        "--seeds=0",
        "--epochs=10",
        "--models",
        "dcgan+grad_accum_steps=2",
        "dcgan+grad_accum_steps=4",
    )
    two, four = sweep_configs(options(*words))
    assert (two.max_steps, two.epochs) == (1000, 10)
    assert (four.max_steps, four.epochs) == (500, 10), "twice the images a step, and as many in all"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "dcgn"], r"--models dcgn: 'dcgn' is unknown \(did you mean 'dcgan'\?\)"),
        (["--models", "dcgan+mish"], "must be key=value"),
        (["--models", "dcgan+activaton=mish"], r"unknown key 'activaton' \(did you mean 'activation'\?\)"),
        (["--models", "dcgan+activation=mush"], "activation = 'mush': must be relu, mish"),
        (["--models", "dcgan+nz=0"], r"--models dcgan\+nz=0: nz = 0: must be"),
        (["--models", "dcgan+lr=1+lr=2"], r"--models dcgan\+lr=1\+lr=2: 'lr' is given twice"),
        (["--models", "d3gan+penalty=lecam,r3"], "--models r3: 'r3' is unknown"),
        (
            ["--models", "d3gan+penalty=r1:0.5"],
            r"--models d3gan\+penalty=r1:0.5: penalty = r1:0.5, discriminator_norm",
        ),
        (["--models", "gman+loss=d2gan"], r"--models gman\+loss=d2gan: loss = d2gan, discriminators = 4: "),
        (["--models", "d3gan+views=slice,sliec"], "--models sliec: 'sliec' is unknown"),
        (["--models", "d3gan+views=same,slice"], r"--models d3gan\+views=same,slice: views = same,slice: same means"),
        (["--models", "gman", "--batch-sizes", "126"], "batch_size = 126, views = slice,dropout, discriminators = 4"),
        (["--models", "dcgan+device=tpu"], "device = 'tpu': must be auto, cpu, cuda, cuda:N or mps"),
        (["--models", "dcgan+lr=1e+400"], "lr = inf: must be at least 0"),
        (["--datasets", "/a/mnist", "/b/MNIST"], "two runs of the sweep would have this folder"),
        (["--datasets", "x" * 230], "is too long for a folder's name"),
        (["--seeds", "0", "x"], "--seeds = 'x': must be a whole number"),
        (["--seeds", "--ablation"], "--seeds: needs a value: one or more, each a whole number"),
        (["--seeds="], "--seeds: needs a value"),
        (["--batch-sizes", "1"], "batch_sizes = 1: must be at least 2"),
        (["--ablation", "--models", "dcgan"], "--ablation and --models: give one of them"),
        (["--against", "dcgn"], r"--against dcgn: 'dcgn' is unknown \(did you mean 'dcgan'\?\)"),
        (["--against", "dcgan+nz=7"], r"--against dcgan\+nz=7: is none of the variants \(did you mean 'dcgan'\?\)"),
        (["--datasets", "/a/mnist", "/b/mnist"], "two runs of the sweep would have this folder"),
    ],
)
def test_bad_values_get_one_line(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sweep_configs(options(*words))


def test_what_is_included_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (["--runs", "nowhere"], "nowhere: holds no run of d3gan"),
        (["--scaling", "nowhere"], "--scaling nowhere: nowhere/scaling.json is no document of `d3gan scale`"),
    ):
        assert main(["compare", "--max-steps=10", *words]) == 2
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "wgan"], "--models wgan: 'wgan' is unknown"),
        (["--against", "wgan"], "--against wgan: 'wgan' is unknown"),
        (["--against", "dcgan+lr=0.1"], "--against dcgan+lr=0.1: is none of the variants"),
        (["--runs", "RUN", "--against", "dcgan+lr=0.1"], "--against dcgan+lr=0.1: is none of the variants"),
        (["--datasets", "mnist", "mnits"], "dataset = mnits: is neither a known name"),
        (["--models", "dcgan"], "evaluate_every = 0: a comparison needs evaluations"),
    ],
)
def test_a_users_mistake_is_named_before_what_is_missing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """None of these says how long a run is, nor how often it is evaluated."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "RUN"
    run.mkdir()
    (run / "config.ini").write_text(config_text(TrainConfig(model="dcgan", lr=0.01)))
    (run / "evaluations.jsonl").touch()
    assert main(["compare", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_baseline_may_be_among_the_runs_trained_before(tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.ini").write_text(config_text(TrainConfig(model="dcgan", lr=0.01)))
    (run / "evaluations.jsonl").touch()
    words = ["--runs", str(run), "--max-steps=9", f"--out={tmp_path}", "--dry-run"]
    assert main(["compare", *words, "--against=dcgan+lr=1e-2"]) == 0


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
    places = [place.environment["CUDA_VISIBLE_DEVICES"] for place in slots_for(0, "auto", 8)]
    assert places == ["3", "5"]
    assert [p.environment["CUDA_VISIBLE_DEVICES"] for p in slots_for(3, "cuda", 8)] == ["3", "5", "3"]
    assert len(slots_for(0, "cuda", 1)) == 1
    assert slots_for(0, "cuda:1", 8) == [Slot({})], "the one that was asked for"


def test_a_gpu_asked_for_by_its_number_is_in_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Done:
        returncode = 0

        def __init__(self, *_: object, env: dict[str, str], **__: object):
            seen.append(env.get("CUDA_VISIBLE_DEVICES"))

        def poll(self) -> int:
            return 0

    monkeypatch.setattr("subprocess.Popen", Done)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    found = options("--models", "dcgan", "dcgan+device=cuda:1", "--seeds=0", f"--out={tmp_path}")
    Scheduler(sweep_configs(found), tmp_path, [Slot({"CUDA_VISIBLE_DEVICES": "3"})]).run()
    assert seen == ["3", "3,5"]


def test_cpus_divide_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cores, at_once, threads in ((1, 1, None), (2, 2, "1"), (16, 8, "2"), (64, 8, "8")):
        monkeypatch.setattr("psutil.cpu_count", lambda logical, cores=cores: cores)
        places = slots_for(0, "cpu", 100)
        assert len(places) == at_once
        assert places[0].environment.get("OMP_NUM_THREADS") == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert slots_for(2, "cpu", 100) == [Slot({}), Slot({})], "the user's own number stays"
