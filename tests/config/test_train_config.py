import configparser
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3gan.config.ini import config_text, load_config
from d3gan.config.recipes import MODELS, Model
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError

ROOT = Path(__file__).parents[2]
# The config.ini of the original D3GAN program.
ORIGINAL = dict(
    type="mnist",
    batch_size="128",
    nz="100",
    ngf="64",
    ndf="64",
    nc="3",
    lr="0.0002",
    beta1="0.5",
    beta2="0.999",
    checkpoint="200",
    workers="2",
    epochs="10",
)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_roots_config_has_the_original_programs_keys_and_values_and_equals_the_defaults() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "config.ini")
    assert ORIGINAL.items() <= dict(parser["parameters"]).items()
    assert load_config(ROOT / "config.ini") == TrainConfig()


def test_a_config_of_the_original_programs_keys_alone_is_read(tmp_path: Path) -> None:
    text = "[parameters]\n" + "\n".join(f"{k} = {v}" for k, v in ORIGINAL.items())
    assert load_config(write(tmp_path / "c.ini", text)) == TrainConfig()


# The others do not go with every key.
FREE_OF_CONDITIONS = sorted(
    name
    for name, recipe in MODELS.items()
    if recipe.loss == "bce" and recipe.sharded == "off" and recipe.duel_beta == 0 and "slice" not in recipe.views
)
configs = st.builds(
    TrainConfig,
    model=st.sampled_from(FREE_OF_CONDITIONS),
    dataset=st.sampled_from(["mnist", "some folder/of images", "a%b.zip", "stl"]),
    out=st.sampled_from(["", "runs/x", "a=b", "[x]"]),
    batch_size=st.integers(2, 10**6),
    lr=st.floats(0, 10),
    beta1=st.floats(0, 0.99),
    lr_d=st.one_of(st.just(""), st.floats(0, 10)),
    beta2_d=st.one_of(st.just(""), st.floats(0, 0.99)),
    softmax_lambda=st.one_of(st.just("learned"), st.floats(0, 100)),
    penalty=st.sampled_from(["", "lecam", "r1:0.05,r2", "r1:1e+20:16, lecam"]),
    discriminator_norm=st.sampled_from(["spectral", "none"]),
    discriminators=st.one_of(st.just("model"), st.integers(1, 64)),
    pairing=st.sampled_from(["model", "own", "swapped"]),
    # Slices and terms need certain batch sizes and numbers of discriminators.
    views=st.sampled_from(["same", "projection", "dropout, width"]),
    microbatch_alpha=st.just(0.0),
    duel_beta=st.just(0.0),
    duel_alpha=st.one_of(st.just("model"), st.floats(0, 10)),
    tensorboard=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)


@given(config=configs)
def test_what_is_written_reads_back_equal(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.getbasetemp() / "round-trip.ini", config_text(config))
    assert load_config(path) == config


@pytest.mark.parametrize("model", MODELS)
def test_every_models_config_reads_back_equal(model: Model, tmp_path: Path) -> None:
    config = TrainConfig(model=model)
    assert load_config(write(tmp_path / "c.ini", config_text(config))) == config


def test_the_resolved_file_names_the_recipe() -> None:
    text = config_text(TrainConfig(model="dcgan", activation="mish"))
    recipe = (
        "discriminators = 1, pairing = swapped, weighting = argmax, loss = bce, activation = mish, schedule = linear"
    )
    assert recipe in text


def test_a_recipe_follows_its_model_unless_overridden() -> None:
    assert TrainConfig(model="dcgan").recipe == MODELS["dcgan"]
    config = TrainConfig(model="dcgan", discriminators=3, schedule="constant")
    assert config.recipe == dataclasses.replace(MODELS["dcgan"], discriminators=3, schedule="constant")
    # replacing the model keeps what was overridden and changes the rest
    assert dataclasses.replace(config, model="d3gan").recipe.activation == "mish"
    assert dataclasses.replace(config, model="d3gan").recipe.discriminators == 3


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("batch_size", 1, "from 2 to 1000000"),
        ("batch_size", "64", "a whole number"),
        ("batch_size", 2.5, "a whole number"),
        ("batch_size", True, "a whole number"),
        ("nc", 2, "one of 1, 3"),
        ("image_size", 40, "one of 16, 32, 48, 64, 128, 256"),
        ("lr", -1.0, "at least 0"),
        ("lr", float("inf"), "at least 0"),
        ("lr", float("nan"), "at least 0"),
        ("beta1", 1.0, "from 0.0 to 0.999999"),
        ("epochs", 0, "at least 1"),
        ("max_steps", -1, "at least 0"),
        ("discriminators", 0, "from 1 to 64"),
        ("discriminators", "two", "a whole number, or model"),
        ("d_steps", 0, "from 1 to 100"),
        ("weighting", "softmin", "hypervolume, dropout, bandit, mgd, model (did you mean 'softmax'?)"),
        ("softmax_lambda", "learnt", "a number, or learned (did you mean 'learned'?)"),
        ("softmax_lambda", -0.1, "from 0.0 to"),
        ("hypervolume_slack", 1.0, "at least 1.000001"),
        ("dropout_rate", 1.1, "from 0.0 to 1.0"),
        ("lr_d", None, "a number, or empty"),
        ("beta1_d", 1.0, "from 0.0 to 0.999999"),
        ("pairing", "swaped", "swapped, own, model (did you mean 'swapped'?)"),
        ("model", "dcgn", "(did you mean 'dcgan'?)"),
        ("seed", -1, "from 0 to"),
        ("tensorboard", "yes", "true or false"),
        ("dataset", "", "d3gan data list"),
        ("out", "a ; b", "cannot be kept in an .ini file"),
        ("out", "a\nb", "cannot be kept in an .ini file"),
        ("dataset", "#pictures", "cannot be kept in an .ini file"),
        ("dataset", "a\t;b", "cannot be kept in an .ini file"),
        ("out", "a\udcffb", "cannot be kept in an .ini file"),
        ("out", " a", "cannot be kept in an .ini file"),
        ("dataset", ["mnist"], "text"),
        ("nz", 10**12, "from 1 to"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(key: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{key: value})
    message = str(caught.value)
    assert key in message
    assert allowed in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no section [parameters]"),
        ("batch_size = 3", "cannot be read as an .ini file"),
        ("[parameters]\nbatch_sise = 3", "unknown key 'batch_sise' (did you mean 'batch_size'?)"),
        ("[parameters]\nbatch_size = many", "batch_size = 'many': must be a whole number"),
        ("[parameters]\nbatch_size =", "batch_size = '': must be a whole number"),
        ("[parameters]\nbatch_size = 1", "batch_size = 1: must be from 2"),
        ("[parameters]\nbatch_size = 8\nbatch_size = 9", "already exists"),
        ("[parameters]\ntype = mnist\ndataset = svhn", "given twice"),
        ("[parameters]\n[more]\nx = 1", "unknown section [more]"),
        ("[parameters]\ntensorboard = perhaps", "must be true or false"),
        ("[parameters]\nlr", "cannot be read"),
    ],
)
def test_a_bad_file_is_named_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.ini", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert expected in message
    assert str(path) in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"[parameters]\nout = \xe9"])
def test_an_unreadable_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "c.ini"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.ini: cannot be read"):
        load_config(path)


def test_comments_and_other_spellings_are_read(tmp_path: Path) -> None:
    text = "# above\n[parameters]\nBatch-Size = 64  ; beside\ntensorboard = on\ntype = stl\n"
    config = load_config(write(tmp_path / "c.ini", text))
    assert (config.batch_size, config.tensorboard, config.dataset) == (64, True, "stl")
