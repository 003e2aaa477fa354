import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from d3gan.errors import ConfigError
from d3gan.scaling.allreduce_model import CostModel, Point, fit, fit_held_out, held_out, validate
from d3gan.scaling.options import require_projectable
from d3gan.scaling.projection import project, projection_record
from tests.scaling.documents import COMPUTE, GRADIENTS, LINK, SIZES, communication, document, points


@settings(max_examples=100, deadline=None)
@given(
    alpha=st.floats(1e-7, 1e-2),
    beta=st.floats(1e6, 1e12),
    workers=st.lists(st.integers(2, 64), min_size=1, max_size=4, unique=True),
)
def test_a_known_latency_and_bandwidth_are_found_again(alpha: float, beta: float, workers: list[int]) -> None:
    # Where one of the two accounts for less than 1e-6 of every time, no digits of it are left to be found.
    sizes = [1, *SIZES, 10**9, 10**11]
    found = fit(points(CostModel(alpha, beta), workers, sizes))
    assert found.alpha == pytest.approx(alpha, rel=1e-6)
    assert found.beta == pytest.approx(beta, rel=1e-6)


def test_noise_of_five_percent_moves_the_fit_by_few_percent() -> None:
    draw = random.Random(0)
    noisy = [p._replace(seconds=p.seconds * draw.uniform(0.95, 1.05)) for p in points(LINK)]
    found = fit(noisy)
    assert found.alpha == pytest.approx(LINK.alpha, rel=0.05)
    assert found.beta == pytest.approx(LINK.beta, rel=0.05)


def test_small_messages_count_as_much_as_large_ones() -> None:
    # One wrong large message: by absolute errors it would outweigh all the small ones, and ruin the latency.
    measured = points(LINK)
    measured[-1] = measured[-1]._replace(seconds=measured[-1].seconds * 1.5)
    assert fit(measured).alpha == pytest.approx(LINK.alpha, rel=0.05)


def test_times_that_fall_with_the_size_give_no_negative_bandwidth() -> None:
    measured = [Point(size, 2, 1e-3 * (1 - 0.01 * i)) for i, size in enumerate(SIZES)]
    found = fit(measured)
    assert found.beta == math.inf
    assert found.alpha == pytest.approx(0.5e-3, rel=0.1)
    assert found.seconds(10**12, 2) == pytest.approx(2 * found.alpha)


def test_times_that_rise_faster_than_the_size_give_no_negative_latency() -> None:
    measured = [Point(size, 2, 1e-15 * size**2) for size in SIZES]
    found = fit(measured)
    assert found.alpha == 0
    assert 0 < found.beta < math.inf


@settings(max_examples=200, deadline=None)
@given(seconds=st.lists(st.floats(1e-6, 1e2), min_size=8, max_size=8))
def test_whatever_was_measured_the_fit_is_the_least_square_that_is_not_negative(seconds: list[float]) -> None:
    measured = [Point(4**i * 100, 2 + 2 * (i % 2), value) for i, value in enumerate(seconds)]
    hops = np.array([2 * (p.workers - 1) / p.seconds for p in measured])
    traffic = np.array([2 * (p.workers - 1) / p.workers * p.bytes / p.seconds for p in measured])
    _, distance = nnls(np.stack([hops / hops.max(), traffic / traffic.max()], axis=1), np.ones(8))

    found = fit(measured)
    assert found.alpha >= 0
    assert found.beta > 0
    ours = math.hypot(*(found.seconds(p.bytes, p.workers) / p.seconds - 1 for p in measured))
    assert ours == pytest.approx(distance, rel=1e-6)


@pytest.mark.parametrize(
    ("measured", "complaint"),
    [
        ([], "2 or more workers"),
        ([Point(size, 1, 1e-6) for size in SIZES], "2 or more workers"),
        (points(LINK, (2, 4, 8), SIZES[:3]), "3 message sizes"),
        ([*points(LINK), Point(64, 2, 0.0)], "64 bytes in 0.0 s"),
        ([*points(LINK), Point(64, 2, math.nan)], "64 bytes in nan s"),
    ],
)
def test_too_little_to_fit_is_an_error(measured: list[Point], complaint: str) -> None:
    for function in (fit, fit_held_out):
        with pytest.raises(ConfigError, match=complaint):
            function(measured)


def test_points_of_one_process_say_nothing() -> None:
    assert fit([*points(LINK), Point(1024, 1, 5.0)]) == fit(points(LINK))


def test_every_third_size_is_held_out_at_every_number_of_workers() -> None:
    kept, others = held_out(reversed(points(LINK)))
    assert {p.bytes for p in others} == {SIZES[2], SIZES[5], SIZES[8]}
    assert len(others) == 6
    assert {p.bytes for p in kept}.isdisjoint(p.bytes for p in others)
    assert len(kept) + len(others) == len(points(LINK))


def test_held_out_sizes_do_not_move_the_fit() -> None:
    measured = points(LINK)
    wrong = [p._replace(seconds=p.seconds * 2) if p.bytes == SIZES[2] else p for p in measured]
    found = fit_held_out(wrong)
    assert found.model.alpha == pytest.approx(LINK.alpha, rel=1e-6)
    assert found.error.largest < 1e-6
    assert found.held_out_error.largest == pytest.approx(0.5)
    assert found.held_out_error.median < 1e-6


def test_validate_gives_median_and_largest_relative_error() -> None:
    model = CostModel(0.0, 1.0)  # on two workers, seconds are bytes
    error = validate(model, [Point(10, 2, 8.0), Point(10, 2, 10.0), Point(10, 2, 20.0)])
    assert error.median == pytest.approx(0.25)
    assert error.largest == pytest.approx(0.5)


@given(st.integers(1, 14))
def test_latency_grows_with_the_workers_in_a_ring_and_with_their_logarithm_in_a_tree(power: int) -> None:
    workers, model = 2**power, CostModel(1.0, math.inf)
    assert model.seconds(1, workers) == 2 * (workers - 1)
    assert model.seconds(1, workers, "tree") == 2 * power
    assert model.seconds(1, workers + 1, "tree") == 2 * (power + 1)


def test_bandwidth_by_hand() -> None:
    model = CostModel(0.0, 100.0)
    assert model.seconds(1000, 4) == pytest.approx(15.0)
    assert model.seconds(1000, 4, "tree") == pytest.approx(20.0)
    assert model.seconds(1000, 1) == model.seconds(1000, 1, "tree") == 0


@pytest.mark.parametrize("model", ["dcgan", "d3gan"])
def test_the_projection_of_a_machine_that_keeps_the_assumptions_is_right(model: str) -> None:
    found = project(document(exposed=0.6), model, 64, 1024)
    assert found.workers == [2**power for power in range(11)]
    assert found.overlap == pytest.approx(0.4)
    for workers, step in zip(found.workers, found.ring.step_seconds, strict=True):
        assert step == pytest.approx(0.001 + COMPUTE[model] + 0.6 * communication(model, workers))
    assert found.ring.images_per_second[-1] == pytest.approx(64 * 1024 / found.ring.step_seconds[-1])
    assert found.ring.efficiency[-1] == pytest.approx(found.ring.step_seconds[0] / found.ring.step_seconds[-1])
    assert found.step_validation
    assert found.step_validation.workers == 2
    assert found.step_validation.relative_error < 1e-9


def test_ring_and_tree_differ_by_the_cost_model_alone() -> None:
    found = project(document(exposed=0.5), "d3gan", 64, 64)
    difference = found.tree.step_seconds[-1] - found.ring.step_seconds[-1]
    sizes = GRADIENTS["d3gan"].values()
    assert difference == pytest.approx(0.5 * sum(LINK.seconds(n, 64, "tree") - LINK.seconds(n, 64) for n in sizes))


@pytest.mark.parametrize("workers", [(1, 2), (2, 3), (1, 3, 6)])
def test_efficiency_of_one_worker_is_one_and_measured_numbers_are_projected_too(workers: tuple[int, ...]) -> None:
    found = project(document(workers), "d3gan", 128, 20)
    assert found.ring.efficiency[0] == found.tree.efficiency[0] == 1
    assert found.workers == sorted({1, 2, 4, 8, 16} | set(workers))
    assert all(0 < share <= 1 for share in found.ring.efficiency)


def test_one_worker_keeps_its_measured_step_where_it_computes_faster_alone() -> None:
    measured = document()
    alone = next(r for r in measured["rows"] if r["model"] == "d3gan" and r["batch_size"] == 64)
    alone["step_seconds"]["median"] = 0.016  # half of what a step takes a process at 4
    found = project(measured, "d3gan", 64, 8)
    assert found.ring.step_seconds[0] == 0.016
    assert found.ring.efficiency[1] < 0.51


def test_the_step_validation_is_relative_to_the_measured_step() -> None:
    measured = document(exposed=0.6)
    second = next(r for r in measured["rows"] if (r["model"], r["workers"], r["batch_size"]) == ("d3gan", 2, 64))
    second["communication_seconds"]["median"] /= 2  # the prediction is now twice what was measured
    check = project(measured, "d3gan", 64, 8).step_validation
    assert check
    assert check.predicted_communication_seconds == pytest.approx(2 * check.measured_communication_seconds)
    assert check.relative_error == pytest.approx(
        second["communication_seconds"]["median"] / second["step_seconds"]["median"]
    )


def test_no_step_validation_where_two_numbers_of_workers_above_one_are_missing() -> None:
    assert project(document((1, 4)), "d3gan", 64, 8).step_validation is None


@pytest.mark.parametrize(("exposed", "overlap"), [(0.0, 1.0), (1.0, 0.0), (1.7, 0.0)])
def test_the_overlap_stays_between_none_and_all(exposed: float, overlap: float) -> None:
    found = project(document(exposed=exposed), "d3gan", 64, 8)
    assert found.overlap == pytest.approx(overlap)
    assert found.communication_ratio == pytest.approx(exposed)


def test_a_link_that_costs_nothing_by_the_model_hides_nothing() -> None:
    free = CostModel(0.0, math.inf)
    found = project(document(), "d3gan", 64, 8, free)
    assert found.overlap == 0
    assert found.communication_ratio == math.inf


@pytest.mark.parametrize(
    ("mode", "workers", "upto", "complaint"),
    [
        ("strong", [1, 2], 8, "not --mode strong"),
        ("weak", [1], 8, "--workers must hold 2 or more"),
        ("weak", [1, 2, 4], 4, "must be more than the 4 workers"),
    ],
)
def test_what_cannot_be_projected_is_refused(mode: str, workers: list[int], upto: int, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        require_projectable(mode, workers, upto)
    with pytest.raises(ConfigError, match=complaint):
        project(document(workers, mode=mode), "d3gan", 64, upto)


def test_a_projection_needs_the_batch_size_and_the_all_reduces() -> None:
    with pytest.raises(ConfigError, match="no measurement of d3gan at batch size 32"):
        project(document(), "d3gan", 32, 8)
    with pytest.raises(ConfigError, match="2 or more workers"):
        projection_record({**document(), "all_reduce": None}, 8)


def test_the_record_outlives_json_and_says_what_it_rests_on() -> None:
    record = projection_record(document(), 1024)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["upto"] == 1024
    assert record["batch_size"] == 64
    assert record["alpha_seconds"] == pytest.approx(LINK.alpha, rel=1e-6)
    assert record["bandwidth_bytes_per_second"] == pytest.approx(LINK.beta, rel=1e-6)
    assert record["held_out_relative_error"]["largest"] < 1e-6
    assert set(record["models"]) == {"dcgan", "d3gan"}
    found = project(document(), "d3gan", 64, 1024)
    assert record["models"]["d3gan"]["ring"]["efficiency"] == found.ring.efficiency
    assert record["models"]["d3gan"]["step_validation"]["workers"] == 2
    text = " ".join(record["assumptions"])
    for part in ("beyond 4 workers", "1 host:", "dcgan 40%, d3gan 40%", "No stragglers, no congestion", "held out"):
        assert part in text
    assert "too optimistic" not in text
    assert "largest message" not in text


def test_the_record_holds_no_infinity() -> None:
    falling = document(link=lambda workers: [Point(n, w, 1e-3 / n**0.1) for w in workers for n in SIZES])
    record = projection_record(falling, 8)
    json.dumps(record, allow_nan=False)
    assert record["bandwidth_bytes_per_second"] is None
    assert "no limit found" in " ".join(record["assumptions"])


def test_the_assumptions_say_where_the_measurements_do_not_carry() -> None:
    text = " ".join(projection_record(document(exposed=1.7), 64)["assumptions"])
    assert "d3gan: communication at 4 workers took 1.7 times what the model gives" in text
    assert "the projection is too optimistic." in text
    small = document(link=lambda workers: points(LINK, workers, SIZES[:5]))
    text = " ".join(projection_record(small, 64)["assumptions"])
    assert "The largest message of a step has 22.1 MB; the largest measured one has 0.3 MB." in text
