"""Keys that contradict each other, and the list of penalties."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d3gan.comparison.variants import parse_variant, split_variants
from d3gan.config.combinations import (
    _MEANINGLESS,
    ADA_DEFAULT,
    PENALTIES,
    VIEWS,
    PenaltyKey,
    parse_penalties,
    parse_views,
)
from d3gan.config.command_line import parse_flags
from d3gan.config.ini import config_text, load_config
from d3gan.config.recipes import MODELS
from d3gan.config.train_config import TrainConfig
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError
from d3gan.training.accumulation import step_in_parts
from d3gan.training.inputs import StepInputs
from d3gan.training.options import Train
from d3gan.training.setup import build_gan, learning_rates

D2GAN: dict[str, Any] = {"model": "d2gan"}
BATCH: dict[str, Any] = {"discriminator_norm": "batch"}
NONE: dict[str, Any] = {"discriminator_norm": "none"}
ADA_P: dict[str, Any] = {"ada_p": 0.5}
SPECTRAL: dict[str, Any] = {"discriminator_norm": "spectral"}
# Keys that contradict each other; what the message says of each of the two; how the advice is worded, with what it
# changes.
REFUSED: list[tuple[dict[str, Any], tuple[str, str], dict[str, dict[str, Any]]]] = [
    (
        D2GAN | {"discriminators": 3},
        ("loss = d2gan", "discriminators = 3"),
        {"set discriminators = 2": {"discriminators": 2}},
    ),
    (
        D2GAN | {"weighting": "argmin"},
        ("loss = d2gan", "weighting = argmin"),
        {"set weighting = sum": {"weighting": "sum"}},
    ),
    (
        D2GAN | {"pairing": "swapped"},
        ("loss = d2gan", "pairing = swapped"),
        {"set pairing = own": {"pairing": "own"}},
    ),
    (
        D2GAN | NONE | {"penalty": "r1,lecam"},
        ("loss = d2gan", "penalty = lecam"),
        {"leave lecam out": {"penalty": "r1"}},
    ),
    (
        {"loss": "relativistic"},
        ("loss = relativistic", "pairing = swapped"),
        {"set pairing = own": {"pairing": "own"}},
    ),
    *(
        (
            {"model": "hgan", "loss": loss, "discriminators": 2} | SPECTRAL,
            ("weighting = hypervolume", f"loss = {loss}"),
            {"set loss = bce, least-squares or relativistic": {"loss": allowed}},
        )
        for loss in ("hinge", "wasserstein")
        for allowed in ("bce", "least-squares", "relativistic")
    ),
    *(
        (
            {"loss": "wasserstein"} | before,
            ("loss = wasserstein", "discriminator_norm"),
            {
                "set discriminator_norm = spectral": SPECTRAL,
                "or discriminator_norm = none and penalty = gp": NONE | {"penalty": "gp"},
            },
        )
        for before in (BATCH, NONE, NONE | {"penalty": "lecam"})
    ),
    *(
        (
            {"penalty": penalty},
            (f"penalty = {written}", "discriminator_norm = batch"),
            {"set discriminator_norm = none or spectral": norm},
        )
        for penalty, written in (("r1", "r1:0.01"), ("lecam,r2:1", "lecam:0.3,r2:1.0"), ("gp", "gp:10.0"))
        for norm in (NONE, SPECTRAL)
    ),
    (
        NONE | {"penalty": "r1", "compile": "on"},
        ("compile = on", "penalty = r1:0.01"),
        {"set compile = off": {"compile": "off"}},
    ),
    (
        NONE | {"penalty": "r1:0.5:16", "cuda_graph": "on"},
        ("cuda_graph = on", "penalty = r1:0.5:16"),
        {"leave out the interval": {"penalty": "r1:0.5"}, "or set cuda_graph = off": {"cuda_graph": "off"}},
    ),
    (
        {"weighting": "mgd", "cuda_graph": "on"},
        ("cuda_graph = on", "weighting = mgd"),
        {"set cuda_graph = off": {"cuda_graph": "off"}},
    ),
    *(
        (
            {"model": "md-gan"} | keys,
            ("sharded = on", name),
            {advice: changes},
        )
        for keys, name, advice, changes in (
            ({"weighting": "argmax"}, "weighting = argmax", "set weighting = mean or sum", {"weighting": "sum"}),
            ({"loss": "d2gan", "weighting": "sum"}, "loss = d2gan", "set sharded = off", {"sharded": "off"}),
            (NONE | {"penalty": "lecam,gp"}, "penalty = lecam", "leave lecam out", {"penalty": "gp"}),
            ({"grad_accum_steps": 2}, "grad_accum_steps = 2", "set grad_accum_steps = 1", {"grad_accum_steps": 1}),
            ({"lr_scaling": "linear"}, "lr_scaling = linear", "set lr_scaling = none", {"lr_scaling": "none"}),
            ({"sync_batchnorm": True}, "sync_batchnorm = True", "set sync_batchnorm = F", {"sync_batchnorm": False}),
            ({"cuda_graph": "on"}, "cuda_graph = on", "set cuda_graph = off", {"cuda_graph": "off"}),
            ({"views": "width"}, "views = width", "set views = same", {"views": "same"}),
            ({"duel_beta": 0.1}, "duel_beta = 0.1", "and duel_beta = 0", {"duel_beta": 0.0}),
        )
    ),
    (
        {"views": "slice,width", "discriminators": 3},
        ("batch_size = 128, views = slice,width", "discriminators = 3"),
        {"set batch_size to a multiple of discriminators": {"batch_size": 129}},
    ),
    (
        {"model": "gman", "batch_size": 4},
        ("batch_size = 4, views = slice,dropout", "discriminators = 4"),
        {"set batch_size to 2 x 4 or a larger multiple": {"batch_size": 8}},
    ),
    (
        {"views": "dropout", "cuda_graph": "on"},
        ("cuda_graph = on", "views = dropout"),
        {"leave dropout out": {"views": "same"}, "or set cuda_graph = off": {"cuda_graph": "off"}},
    ),
    (
        {"model": "microbatchgan", "views": "width"},
        ("microbatch_alpha = 0.5", "views = width"),
        {"set views = slice": {"views": "slice"}, "or microbatch_alpha = 0": {"microbatch_alpha": 0.0}},
    ),
    (
        {"model": "microbatchgan", "discriminators": 1},
        ("microbatch_alpha = 0.5", "discriminators = 1"),
        {
            "set discriminators = 2 or more": {"discriminators": 2},
            "or microbatch_alpha = 0": {"microbatch_alpha": 0.0},
        },
    ),
    (
        {"model": "microbatchgan", "loss": "hinge"},
        ("microbatch_alpha = 0.5", "loss = hinge"),
        {"set loss = bce": {"loss": "bce"}, "or microbatch_alpha = 0": {"microbatch_alpha": 0.0}},
    ),
    (
        {"model": "dcgan", "duel_beta": 0.1},
        ("duel_beta = 0.1", "discriminators = 1"),
        {"set discriminators = 2 or more": {"discriminators": 3}, "or duel_beta = 0": {"duel_beta": 0.0}},
    ),
    (
        {"model": "duelgan", "loss": "relativistic"},
        ("duel_beta = 0.5", "loss = relativistic"),
        {"set loss = bce": {"loss": "bce"}, "or duel_beta = 0": {"duel_beta": 0.0}},
    ),
    (
        {"model": "duelgan", "views": "slice,width"},
        ("duel_beta = 0.5", "views = slice,width"),
        {"leave slice out": {"views": "width"}, "or set duel_beta = 0": {"duel_beta": 0.0}},
    ),
    (
        {"ema": 0.9, "ema_half_life": 500},
        ("ema = 0.9", "ema_half_life = 500"),
        {"set one of them to 0": {"ema": 0}},
    ),
    (
        {"ema": 0.9, "ema_half_life": 500},
        ("ema = 0.9", "ema_half_life = 500"),
        {"set one of them to 0": {"ema_half_life": 0}},
    ),
    (
        {"network": "mlp"},
        ("network = mlp", "dataset = mnist"),
        {"set network = auto": {"network": "auto"}},
    ),
    (
        {"dataset": "ring8", "network": "dcgan"},
        ("network = dcgan", "dataset = ring8"),
        {"set network = auto": {"network": "auto"}},
    ),
    (
        {"dataset": "ring8", "conditional": True},
        ("conditional = True", "dataset = ring8"),
        {"set conditional = False": {"conditional": False}},
    ),
    (
        {"radius": 2.0},
        ("radius, deviation", "mnist"),
        {"leave radius and deviation out": {"radius": ""}},
    ),
    (
        {"dataset": "ring8", "precision": "bf16"},
        ("precision = bf16", "dataset = ring8"),
        {"set precision = float32": {"precision": "float32"}},
    ),
    (
        {"dataset": "grid25", "protocol": "published"},
        ("protocol = published", "dataset = grid25"),
        {"set protocol = standard": {"protocol": "standard"}},
    ),
    (
        {"dataset": "grid25", "metrics": "fid,modes"},
        ("metrics = fid,modes", "dataset = grid25"),
        {"set metrics = auto": {"metrics": "auto"}},
    ),
    (
        {"dataset": "stacked-mnist", "nc": 1},
        ("dataset = stacked-mnist", "nc = 1"),
        {"set nc = 3": {"nc": 3}},
    ),
    (
        {"metrics": "modes"},
        ("metrics = modes", "dataset = mnist"),
        {"set metrics = auto": {"metrics": "auto"}},
    ),
    (
        {"dataset": "ring8", "augment": "cutout"},
        ("augment = cutout", "dataset = ring8"),
        {"leave augment out": {"augment": ""}},
    ),
    (
        {"dataset": "ring8", "flips": True},
        ("augment = , flips = True", "dataset = ring8"),
        {"set flips = off": {"flips": False}},
    ),
    *(
        (
            {"augment": "ada", "loss": loss, "pairing": "own", "model": model} | SPECTRAL,
            ("augment = ada", f"loss = {loss}"),
            {"set ada_p": ADA_P, "or loss = bce or hinge": {"loss": "hinge"}},
        )
        for loss, model in (
            ("wasserstein", "d3gan"),
            ("relativistic", "d3gan"),
            ("least-squares", "d3gan"),
            ("d2gan", "d2gan"),
        )
    ),
    (
        {"augment": "ada", "ada_ramp_up": 500},
        ("ada_ramp_up = 500", "ada_p is empty"),
        {"set ada_p too": {"ada_p": 0.5}, "or ada_ramp_up = 0": {"ada_ramp_up": 0}},
    ),
    (
        {"generator": "ema"},
        ("generator = ema", "moving average"),
        {"set ema too, such as ema = 0.999": {"ema": 0.999}, "or ema_half_life": {"ema_half_life": 500}},
    ),
    (
        {"image_size": 48},
        ("image_size = 48", "the networks of dcgan are for 16, 32, 64, 128, 256 pixels"),
        {"set image_size to one of these": {"image_size": 64}, "or choose another network": {"network": "resnet"}},
    ),
    (
        {"image_size": 256, "network": "resnet"},
        ("image_size = 256", "the networks of resnet are for 32, 48, 64, 128 pixels"),
        {"set image_size to one of these": {"image_size": 128}},
    ),
    *(
        (
            {"network": network} | BATCH,
            (f"network = {network}", "discriminator_norm = batch"),
            {"set discriminator_norm = auto": {"discriminator_norm": "auto"}},
        )
        for network in ("resnet", "r3gan")
    ),
    (
        {"network": "r3gan"} | SPECTRAL,
        ("network = r3gan", "discriminator_norm = spectral"),
        {"set discriminator_norm = auto": {"discriminator_norm": "auto"}},
    ),
    (
        {"network": "r3gan", "compile": "on"},
        ("compile = on", "network = r3gan"),
        {"set compile = off": {"compile": "off"}},
    ),
    (
        {"network": "r3gan", "activation": "mish"},
        ("network = r3gan", "activation = mish"),
        {"set activation = leaky_relu": {"activation": "leaky_relu"}},
    ),
]


def refusal(keys: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**keys)
    return str(caught.value)


@pytest.mark.parametrize(("keys", "names", "advice"), REFUSED)
def test_a_contradiction_names_both_keys_and_what_to_change(
    keys: dict[str, Any], names: tuple[str, str], advice: dict[str, dict[str, Any]]
) -> None:
    message = refusal(keys)
    assert message.startswith(names[0])
    assert names[1] in message
    assert "\n" not in message
    for words, changes in advice.items():
        assert words in message
        step(TrainConfig(**{**keys, **changes}))


def test_every_contradiction_is_tested() -> None:
    messages = [refusal(keys) for keys, *_ in REFUSED]
    for _, message in _MEANINGLESS:
        fixed = message.split("{")[0]
        assert any(each.startswith(fixed) and each.endswith(message[-20:]) for each in messages), message


def test_several_contradictions_are_solved_one_after_the_other() -> None:
    keys: dict[str, Any] = {"model": "hgan", "loss": "d2gan", "penalty": "lecam", "pairing": "swapped"}
    for name, value in (("discriminators", 2), ("weighting", "sum"), ("pairing", "own"), ("penalty", "")):
        assert name in refusal(keys)
        keys[name] = value
    step(TrainConfig(**keys))


def step(config: TrainConfig) -> None:
    """A step of small networks changes every network, and nothing becomes NaN."""
    batch_size = 2 * max(2, config.recipe.discriminators)  # so that each sees a slice of two
    side = 32 if config.network == "resnet" else 16
    sizes = {"image_size": side, "ngf": 2, "ndf": 2, "nz": 4, "batch_size": batch_size}
    config, device = TrainConfig(**(vars(config) | sizes)), torch.device("cpu")
    rng = np.random.default_rng(0)
    shape, dtype = ((batch_size, 2), np.float32) if config.makes_points else ((batch_size, 3, side, side), np.uint8)
    images: Any = rng.integers(0, 256, shape).astype(dtype)
    real_images, latents, context = StepInputs(config, images, Group(), device, torch.float32).at(0)
    gan = build_gan(config, device, "float32")
    before = [p.clone() for p in gan.generator.parameters()]
    result = step_in_parts(1, gan.workers is not None)(gan, real_images, latents, context)
    assert torch.isfinite(result.losses).all()
    assert torch.isfinite(result.generator_loss)
    assert any(not p.equal(old) for p, old in zip(gan.generator.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("same", (), "same"),
        (" dropout , slice,", ("slice", "dropout"), "slice,dropout"),
        ("dropout,width,projection,slice", VIEWS, "slice,projection,width,dropout"),
    ],
)
def test_views_are_read_and_written_in_one_way(
    text: str, expected: tuple[str, ...], written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse_views(text) == expected
    config = TrainConfig(views=text.strip())
    assert (config.view_names, config.views, config.recipe.views) == (expected, written, written)
    monkeypatch.chdir(tmp_path)
    for words in (["--views", text], ["--views", *text.replace(",", " ").split()]):
        assert parse_flags(Train, words, "d3gan train").views == written
    (tmp_path / "c.ini").write_text(config_text(config))
    assert load_config(tmp_path / "c.ini") == config


def test_a_recipes_views_are_written_in_that_way() -> None:
    for model, recipe in MODELS.items():
        assert TrainConfig(model=model, views=recipe.views).recipe.views == recipe.views


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "views is empty; allowed: same alone, or some of slice, projection, width, dropout"),
        ("slcie", "views = slcie: 'slcie' is unknown (did you mean 'slice'?); allowed: same alone, or some of slice"),
        ("slice,slice", "views = slice,slice: slice is given twice"),
        ("width,same", "views = width,same: same means no other view; allowed"),
        ("model,width", "views = model,width: 'model' is unknown"),
    ],
)
def test_bad_views_are_named_with_what_is_allowed(text: str, said: str) -> None:
    assert said in refusal({"views": text})


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("", ("", ()), ""),
        ("cutout, color", ("diffaugment", ("color", "cutout")), "color,cutout"),
        ("ada", ("ada", ADA_DEFAULT), "ada"),
        ("ada:color,geom,blit", ("ada", ADA_DEFAULT), "ada"),
        ("ada: cutout , blit,", ("ada", ("blit", "cutout")), "ada:blit,cutout"),
    ],
)
def test_augmentations_are_read_and_written_in_one_way(
    text: str, expected: tuple[str, tuple[str, ...]], written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(augment=text)
    assert config.augmentation == expected
    assert config.augment == written
    assert bool(config.augmentation) is bool(text)
    monkeypatch.chdir(tmp_path)
    for words in ([f"--augment={text}"], ["--augment", *(text.replace(",", " ").split() or [""])]):
        assert parse_flags(Train, words, "d3gan train").augment == written
    (tmp_path / "c.ini").write_text(config_text(config))
    assert load_config(tmp_path / "c.ini") == config
    assert parse_variant(f"dcgan+augment={written}+lr=0.1")[1]["augment"] == written
    assert split_variants(f"dcgan+augment={written}+lr=0.1,d3gan") == [f"dcgan+augment={written}+lr=0.1", "d3gan"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "colour",
            "augment = colour: 'colour' is unknown (did you mean 'color'?); allowed: empty; some of color",
        ),
        ("adda", "'adda' is unknown (did you mean 'ada'?)"),
        ("color,color", "color is given twice"),
        ("blit,geom", "blit is no part of DiffAugment; allowed"),
        ("color,ada", "ada is no part of DiffAugment; allowed"),
        ("ada:", "names no group after ada:; allowed"),
        ("ada:bliT", "'bliT' is unknown (did you mean 'blit'?)"),
        ("ada:translation", "'translation' is unknown; allowed"),
        ("ada:blit,blit", "blit is given twice"),
        ("ADA", "'ADA' is unknown"),
    ],
)
def test_a_bad_augmentation_is_named_with_what_is_allowed(text: str, said: str) -> None:
    message = refusal({"augment": text})
    assert message.startswith(f"augment = {text}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("", (), ""),
        (" , ", (), ""),
        ("gp", (PenaltyKey("gp", 10.0, 1),), "gp:10.0"),
        ("r1:0.05", (PenaltyKey("r1", 0.05, 1),), "r1:0.05"),
        ("r1:1e-2:16, r2", (PenaltyKey("r1", 0.01, 16), PenaltyKey("r2", 0.01, 1)), "r1:0.01:16,r2:0.01"),
        ("lecam:3:1", (PenaltyKey("lecam", 3.0, 1),), "lecam:3.0"),
        ("r2:1e+30:1000000", (PenaltyKey("r2", 1e30, 1_000_000),), "r2:1e30:1000000"),
    ],
)
def test_penalties_are_read_and_written_in_one_way(text: str, expected: tuple[PenaltyKey, ...], written: str) -> None:
    assert parse_penalties(text) == expected
    config = TrainConfig(penalty=text.strip(), discriminator_norm="none")
    assert config.penalties == expected
    assert config.penalty == written
    assert parse_penalties(written) == expected


def test_every_penalty_has_a_usual_weight() -> None:
    for name, weight in PENALTIES.items():
        assert parse_penalties(name) == (PenaltyKey(name, weight, 1),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lecan", "'lecan' is unknown (did you mean 'lecam'?); allowed: gp, r1, r2, lecam, each"),
        ("R1", "'R1' is unknown"),
        ("r3", "'r3' is unknown; allowed"),
        ("r1=0.05", "'r1=0.05' is unknown"),
        ("gp,gp:1", "gp is given twice"),
        *(
            (word, f"{word!r} must be NAME:WEIGHT:EVERY with a weight above 0 and a number of steps")
            for word in ("r1:", "r1:x", "r1:0", "r1:-1", "r1:inf", "r1:nan", "r1:1e999", "r1:0.1:0", "r1:0.1:1.5",
                         "r1:0.1:", "r1::4", "r1:0.1:1000001", "r1:0.1:4:2")
        ),
    ],
)  # fmt: skip
def test_a_bad_penalty_is_named_with_what_is_allowed(text: str, said: str) -> None:
    message = refusal({"penalty": text, "discriminator_norm": "none"})
    assert message.startswith(f"penalty = {text}: ")
    assert said in message


def test_the_flag_takes_penalties_with_spaces_and_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["--penalty", "r1:0.5", "r2"], ["--penalty=r1:0.5,r2"], ["--penalty", "r1:0.5, r2"]):
        found = parse_flags(Train, [*words, "--discriminator-norm=none"], "d3gan train")
        assert found.penalty == "r1:0.5,r2:0.01"


@pytest.mark.parametrize(("name", "same"), [("lr_d", "lr"), ("beta1_d", "beta1"), ("beta2_d", "beta2")])
def test_the_discriminators_number_may_be_empty(
    name: str, same: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, flag = tmp_path / "c.ini", f"--{name.replace('_', '-')}"
    for text, value in (("", ""), ("0.25", 0.25)):
        path.write_text(f"[parameters]\n{name} = {text}\n")
        config = load_config(path)
        assert getattr(config, name) == value
        for words in ([flag, text], [f"{flag}={text}"]):
            assert getattr(parse_flags(Train, words, "d3gan train"), name) == value
        path.write_text(config_text(config))
        assert load_config(path) == config
    # On the command line, empty overrides the file's number.
    assert getattr(parse_flags(Train, [f"--config={path}", f"{flag}="], "d3gan train"), name) == ""
    path.write_text(f"[parameters]\n{name} = much\n")
    with pytest.raises(ConfigError, match=f"{name} = 'much': must be a number, or empty"):
        load_config(path)
    with pytest.raises(ConfigError, match=f"{name} = -1.0: must be "):
        TrainConfig(**{name: -1.0})  # type: ignore[arg-type]
    one = TrainConfig(**{same: 0.25, "image_size": 16, "ngf": 2, "ndf": 2})  # type: ignore[arg-type]
    other = TrainConfig(**{name: 0.75} | {same: 0.25, "image_size": 16, "ngf": 2, "ndf": 2})  # type: ignore[arg-type]
    assert numbers_of(one, same) == (0.25, 0.25)
    assert numbers_of(other, same) == (0.25, 0.75)


def numbers_of(config: TrainConfig, name: str) -> tuple[float, float]:
    """The learning rate or the decay rate of Adam, of the generator and of the discriminators."""
    if name == "lr":
        return learning_rates(config, 0, 10)
    gan = build_gan(config, torch.device("cpu"), "float32")
    groups = [optimizer.param_groups[0] for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer)]
    one, other = (group["betas"][int(name[-1]) - 1] for group in groups)
    return one, other
