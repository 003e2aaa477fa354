"""Which GPU a process takes, on machines that have some and on those that have none."""

import pytest
import torch

from d3gan.distributed.setup import number_of_environment, own_device
from d3gan.errors import ConfigError


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int, **variables: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_host_takes_its_own_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 4, WORLD_SIZE=8, LOCAL_WORLD_SIZE=4, LOCAL_RANK=3)
    assert own_device(name) == torch.device("cuda:3")


def test_a_single_process_takes_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 4, WORLD_SIZE=1, LOCAL_RANK=3)
    assert own_device("cuda:1") == torch.device("cuda:1")
    assert own_device("cpu") == torch.device("cpu")


def test_several_processes_without_a_gpu_take_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0, WORLD_SIZE=2, LOCAL_WORLD_SIZE=2, LOCAL_RANK=1)
    assert own_device("auto") == own_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("auto", 2, "4 processes on this host, 2 GPUs: start at most one for each GPU"),
        ("cuda", 0, "4 processes on this host, 0 GPUs"),
        ("cuda:0", 4, "is one GPU for 4 processes; use cuda"),
        ("mps", 0, "serves a single process; use cpu"),
        ("tpu", 4, "must be auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_what_cannot_be_is_refused(name: str, gpus: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus, WORLD_SIZE=4, LOCAL_WORLD_SIZE=4, LOCAL_RANK=0)
    with pytest.raises(ConfigError, match=message):
        own_device(name)


@pytest.mark.parametrize("text", ["two", "-1", "0", "1.5"])
def test_a_number_of_the_environment_must_be_one(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(ConfigError, match=r"WORLD_SIZE = .* in the environment: must be a whole number, at least 1"):
        number_of_environment("WORLD_SIZE", 1, least=1)
