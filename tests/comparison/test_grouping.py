"""Which variants a comparison sets against which."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from d3gan import TrainConfig
from d3gan.comparison.grouping import Condition
from d3gan.comparison.variants import parse_variant


def condition(*names: str) -> Condition:
    def config(name: str) -> TrainConfig:
        model, changes = parse_variant(name)
        return dataclasses.replace(TrainConfig(), model=model, **changes)  # type: ignore[arg-type]

    variants: dict[str, Any] = {name: {0: SimpleNamespace(config=config(name))} for name in names}
    return Condition("mnist", 128, variants)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["dcgan", "d3gan"], [("d3gan", "dcgan")]),
        (["dcgan", "d3gan-mean", "d3gan"], [("d3gan-mean", "dcgan"), ("d3gan", "dcgan"), ("d3gan", "d3gan-mean")]),
        (["gman-mean", "gman"], [("gman", "gman-mean")]),
        (["dcgan-controlled", "hgan", "d2gan"], [("hgan", "dcgan-controlled"), ("d2gan", "dcgan-controlled")]),
        (["dcgan+nz=7", "dcgan", "d3gan+nz=7"], [("d3gan+nz=7", "dcgan+nz=7")]),
        (["dcgan", "dcgan+discriminators=3"], [("dcgan+discriminators=3", "dcgan")]),
        (["dcgan", "dcgan+activation=mish"], [("dcgan+activation=mish", "dcgan")]),
    ],
)
def test_each_variant_meets_its_models_baselines(names: list[str], pairs: list[tuple[str, str]]) -> None:
    assert condition(*names).pairs() == pairs


def test_another_loss_is_more_than_another_number_of_discriminators() -> None:
    found = condition("dcgan-controlled", "d2gan", "hgan")
    assert not found.differ_in_discriminators_alone("d2gan", "dcgan-controlled")
    assert found.differ_in_discriminators_alone("hgan", "dcgan-controlled")
