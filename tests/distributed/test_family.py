"""Every rule, loss and regulariser: two processes against one that runs their batches one after the other."""

from typing import Any

import pytest
import torch

from d3gan.config.combinations import ADA_GROUPS, POLICIES, VIEWS
from d3gan.config.recipes import MODELS
from d3gan.distributed.group import Group
from d3gan.training.losses import LOSSES
from d3gan.training.penalties import GRADIENT_PENALTIES
from d3gan.training.weighting import WEIGHTINGS
from tests.distributed.family_programs import CASES, OF_RULES, STEPS, config, context, steps
from tests.distributed.processes import results_of_two


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return results_of_two("tests.distributed.family_programs", tmp_path_factory.mktemp("family"), timeout=300)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_do_what_one_does_with_both_batches(ranks: list[dict[str, Any]], name: str) -> None:
    one, two = steps(name, 2, Group(), None), ranks[0][name]["together"]
    assert one.keys() == two.keys()
    for key in one.keys() - {"state"}:
        torch.testing.assert_close(two[key], one[key], rtol=0, atol=1e-10, msg=key)
    assert one["state"].keys() == two["state"].keys()
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=0, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", CASES)
def test_the_ranks_stay_equal(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = (each[name]["together"] for each in ranks)
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key
    for key in first.keys() - {"state"}:
        assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize("name", sorted(OF_RULES.keys() - {"mean", "sum", "random", "dropout"}))
def test_the_ranks_would_weigh_otherwise_alone(ranks: list[dict[str, Any]], name: str) -> None:
    """Or the comparison would not show that they decide together."""
    alone = [each[name]["alone"] for each in ranks]
    # A bandit decides by what it has seen in steps before.
    first = 1 if name == "bandit" else 0
    differ = [not torch.equal(a, b) for a, b in zip(*alone, strict=True)]
    assert differ[first:].count(True) >= (STEPS - first if name not in ("argmax", "argmin") else 2)


@pytest.mark.parametrize("name", ["random", "dropout"])
def test_rules_that_draw_draw_something_else_in_another_step(ranks: list[dict[str, Any]], name: str) -> None:
    weights = ranks[0][name]["together"]["weights"]
    assert not torch.equal(weights[0], weights[1]) or not torch.equal(weights[1], weights[2])


def test_adas_p_moves_in_all_processes(ranks: list[dict[str, Any]]) -> None:
    """Or the comparison would show nothing of it."""
    assert ranks[0]["augment: ADA, bandit, two d_steps"]["together"]["ada"][:, 0].tolist() == [0.0] * 4 + [0.5] * 2


def test_every_name_has_a_case() -> None:
    configs = [config(changes) for changes in CASES.values()]
    assert {each.recipe.weighting for each in configs} == {*WEIGHTINGS}
    assert (
        {each.recipe.loss for each in configs} == {*LOSSES, "d2gan"} == {m.loss for m in MODELS.values()} | {*LOSSES}
    )
    assert {p.name for each in configs for p in each.penalties} == {*GRADIENT_PENALTIES, "lecam"}
    assert {each.resolved_norm for each in configs} == {"batch", "none", "spectral"}
    assert {view for each in configs for view in each.view_names} == {*VIEWS}
    assert {each.follows_the_run for each in configs} == {True, False}
    augmentations = [each.augmentation for each in configs]
    assert {part for each in augmentations if each.method == "diffaugment" for part in each.names} == {*POLICIES}
    assert {part for each in augmentations if each.method == "ada" for part in each.names} == {*ADA_GROUPS}


@pytest.mark.parametrize("name", [name for name, changes in CASES.items() if "dropout" in changes.get("views", "")])
def test_the_ranks_drop_other_values(name: str) -> None:
    """Or the comparison would not show that each batch has masks of its own."""
    of_case = config(CASES[name])
    size = of_case.images_per_step
    seeds = [context(of_case, 0, [rank], torch.zeros(size)).mask_seeds for rank in (0, 1)]
    assert len({*seeds[0], *seeds[1]}) == 2 * of_case.d_steps
