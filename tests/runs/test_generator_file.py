"""Files of generators: whatever their header says, memory follows the file, and errors name it."""

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from d3gan.errors import ConfigError, ExternalError
from d3gan.models.networks import make_generator
from d3gan.runs.generator_file import load_generator, read_facts, save_generator

SMALL: dict[str, Any] = dict(image_size=16, nz=4, ngf=2, nc=1, activation="relu")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_generator(make_generator(SMALL), tmp_path / "g.safetensors", {"seed": 3})
    return tmp_path / "g.safetensors"


def with_header(path: Path, change: dict[str, Any] | list[Any] | str, **architecture: Any) -> Path:
    """Changes our part of a file's header: the whole, or entries of it."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["d3gan"])
    if isinstance(change, dict):
        ours["architecture"] |= architecture
        text = json.dumps(ours | change)
    else:
        text = change if isinstance(change, str) else json.dumps(change)
    header["__metadata__"]["d3gan"] = text
    packed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + content[8 + length :])
    return path


def test_what_was_saved_is_loaded(path: Path) -> None:
    torch.manual_seed(0)
    network = make_generator(SMALL)
    save_generator(network, path, {"seed": 3})
    loaded = load_generator(path)
    latents = torch.randn(5, 4)
    assert torch.equal(loaded(latents), network.eval()(latents))
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in loaded.parameters())
    assert read_facts(path) == {"seed": 3}


@pytest.mark.parametrize(
    "architecture",
    [
        {"ngf": 3000},
        {"ngf": 10**9},
        {"ngf": 10**40},
        {"nz": 10**9},
        {"classes": 10**9},
        {"nc": 0},
        {"nc": -1},
        {"ngf": 2.0},
        {"nz": True},
        {"image_size": 32},
        {"image_size": 17},
        {"activation": "none"},
        {"activation": []},
        {"network": "mlp"},
        {"network": "other"},
        {"another": 1},
    ],
)
def test_a_header_that_does_not_fit_the_tensors_builds_nothing(architecture: dict[str, Any], path: Path) -> None:
    with_header(path, {}, **architecture)
    tracemalloc.start()
    try:
        with pytest.raises(ExternalError, match=r"g\.safetensors: is damaged"):
            load_generator(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize(
    "header",
    [
        [1],
        "5",
        '"x"',
        "null",
        "[" * 100_000,
        "{",
        {"architecture": None},
        {"architecture": [1]},
        {"facts": [1]},
        {"facts": None},
    ],
)
def test_a_header_of_another_shape_is_told(header: Any, path: Path) -> None:
    with_header(path, header)
    for read in (load_generator, read_facts) if "facts" not in header else (read_facts,):
        if header not in ({"architecture": None}, {"architecture": [1]}) or read is load_generator:
            with pytest.raises(ExternalError, match=r"g\.safetensors: is "):
                read(path)


@pytest.mark.parametrize(
    "facts", [{"seed": "abc"}, {"seed": -1}, {"seed": 2**70}, {"seed": 1.0}, {"radius": "x"}, {"deviation": -1}]
)
def test_facts_that_cannot_be_are_told(facts: dict[str, Any], path: Path) -> None:
    with_header(path, {"facts": facts})
    with pytest.raises(ExternalError, match=rf"g\.safetensors: is damaged \({next(iter(facts))} = .*: must be"):
        read_facts(path)


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_a_fifo_is_no_generator(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "g.safetensors")
    with pytest.raises(ConfigError, match="is a FIFO"):
        load_generator(tmp_path / "g.safetensors")
