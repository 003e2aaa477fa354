"""From words to a command's dataclass: lists in both styles, and the rules that each key carries."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from d3gan.cli import COMMANDS
from d3gan.config.command_line import parse_flags
from d3gan.config.train_config import FREE_KEYS, PER_PROCESS_KEYS, TrainConfig
from d3gan.config.validation import check_values, field_types, key
from d3gan.errors import ConfigError
from d3gan.training.options import Train


def parsed(line: str) -> Any:
    command, *words = line.split()
    return parse_flags(COMMANDS[command][0], words, f"d3gan {command}")


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("train --metrics LIST --lr 1", "metrics", "fid,kid"),
        ("compare --metrics LIST --max-steps=9", "metrics", "fid,kid"),
        ("evaluate RUN --metrics LIST", "metrics", "fid,kid"),
        ("evaluate --metrics LIST RUN", "metrics", "fid,kid"),
        ("evaluate --metrics LIST --images a.zip --reference b.zip", "metrics", "fid,kid"),
        ("scale --workers LIST --seconds 2", "workers", "1,2"),
        ("scale --batch-sizes LIST", "batch_sizes", "16,32"),
        ("scale --models LIST", "models", "dcgan,d3gan"),
        ("compare --max-steps=9 --seeds LIST --lr 1", "seeds", (3, 4)),
        ("compare --max-steps=9 --models LIST", "models", ("dcgan", "d3gan")),
    ],
)
@pytest.mark.parametrize("style", ["spaces", "commas", "="])
def test_every_list_takes_spaces_and_commas(
    line: str, field: str, expected: Any, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = expected.split(",") if isinstance(expected, str) else [str(part) for part in expected]
    if style == "=":
        line = line.replace(" LIST", f"={','.join(parts)}")
    flags = parsed(line.replace("LIST", (" " if style == "spaces" else ",").join(parts)))
    assert getattr(flags, field) == expected
    if "RUN" in line:
        assert flags.run == "RUN"


def test_the_last_of_two_equal_flags_counts_and_text_may_be_empty() -> None:
    assert parsed("sample RUN --num=3 --num 4").num == 4
    assert parse_flags(COMMANDS["sample"][0], ["RUN", "--out", ""], "d3gan sample").out == ""


def test_every_number_of_the_config_has_a_range() -> None:
    types = field_types(TrainConfig)
    numbers = [f for f in dataclasses.fields(TrainConfig) if types[f.name] in (int, float)]
    assert [f.name for f in numbers if not f.metadata.get("allowed")] == []


def test_a_range_holds_for_each_number_of_a_tuple() -> None:
    @dataclasses.dataclass
    class Sizes:
        sizes: tuple[int, ...] = key((), allowed=(2, None))

    check_values(Sizes((2, 3)))
    with pytest.raises(ConfigError, match="sizes = 1: must be at least 2"):
        check_values(Sizes((2, 1)))


def test_what_decides_a_step_binds_a_resumed_run() -> None:
    bound = {
        "model",
        "batch_size",
        "image_size",
        "nz",
        "lr",
        "beta1",
        "discriminators",
        "pairing",
        "seed",
        "precision",
    }
    assert not bound & FREE_KEYS
    assert {"out", "max_steps", "log_every", "device", "grad_accum_steps", "metrics", "reference"} < FREE_KEYS
    assert FREE_KEYS > PER_PROCESS_KEYS == {"dataset", "data_dir", "workers", "inception_weights"}
    # With a rate that falls to 0 at the end, the number of epochs decides every step.
    assert TrainConfig(model="d3gan").free_keys == FREE_KEYS | {"epochs"}
    assert TrainConfig(model="dcgan").free_keys == FREE_KEYS
    # Two processes have half the batch each, in which one has both discriminators' parts.
    assert TrainConfig(model="md-gan").free_keys == FREE_KEYS | {"epochs", "batch_size"}
    # So it does with weights that follow the run.
    for model in ("microbatchgan", "duelgan"):
        assert TrainConfig(model=model).free_keys == FREE_KEYS
    assert TrainConfig(model="duelgan", duel_beta=0.0).free_keys == FREE_KEYS | {"epochs"}


def test_the_home_folder_is_understood_in_every_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = parse_flags(Train, ["--out=~/run", "--data-dir", "~/data", "--dataset=mnist"], "d3gan train")
    assert (flags.out, flags.data_dir) == (f"{tmp_path}/run", f"{tmp_path}/data")
    assert TrainConfig(dataset="mnist", out="~/run").run_directory == tmp_path / "run"


@pytest.mark.parametrize("command", ["train", "compare --max-steps=9"])
@pytest.mark.parametrize("named", [False, True])
def test_a_config_file_alone_starts_no_program(
    command: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("other.ini" if named else "config.ini")
    path.write_text("[parameters]\nfeatures = evil.pt2\n")
    words = f"{command} --config {path}" if named else command
    with pytest.raises(ConfigError, match=r"\.ini: features = evil\.pt2: is a program, and a config file alone"):
        parsed(words)
    assert parsed(f"{words} --trust-features").features == "evil.pt2"
    assert parsed(f"{words} --features evil.pt2").features == "evil.pt2"
    assert parsed(f"{words} --features other.pt2").features == "other.pt2"
    path.write_text("[parameters]\nfeatures = efficientnet-lite0\n")
    assert parsed(words).features == "efficientnet-lite0"
    path.write_text("[parameters]\ntrust_features = yes\nfeatures = evil.pt2\n")
    with pytest.raises(ConfigError, match="unknown key 'trust_features'"):
        parsed(words)
