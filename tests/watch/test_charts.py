"""The geometry of the small charts."""

import re

import pytest

from d3gan.watch.charts import Chart, chart_of, short


def drawn(chart: Chart | None) -> Chart:
    assert chart is not None
    return chart


def points_of(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([^LMh]+)", path)]


def test_larger_values_are_higher_and_later_steps_further_right() -> None:
    chart = drawn(chart_of("Losses", "", [("G", [(0, 1.0), (50, 2.0), (100, 1.5)]), ("D0", [(50, 1.2)])]))
    first, second, third = points_of(chart.curves[0].path)
    assert first[0] < second[0] < third[0] == 352
    assert second[1] < third[1] < first[1]
    assert [tick.text for tick in chart.x_ticks] == ["0", "50", "100"]
    values = [float(tick.text) for tick in chart.y_ticks]
    assert values == sorted(values)
    assert len(values) > 2
    assert [tick.at for tick in chart.y_ticks] == sorted((tick.at for tick in chart.y_ticks), reverse=True)
    assert chart.label == "Losses; at step 100: G 1.5, D0 1.2"
    assert chart.curves[1].path.endswith("h0"), "a single point is a dot"


def test_values_of_several_powers_of_ten_are_on_a_logarithmic_axis() -> None:
    chart = drawn(chart_of("FID", "", [("a", [(0, 300.0), (1, 30.0), (2, 3.0)])]))
    (_, top), (_, middle), (_, bottom) = points_of(chart.curves[0].path)
    assert middle == pytest.approx((top + bottom) / 2, abs=0.2)
    assert [tick.text for tick in chart.y_ticks] == ["5", "10", "20", "50", "100", "200"]


def test_a_chart_without_a_line_to_see_is_none() -> None:
    assert chart_of("Losses", "", []) is None
    assert chart_of("Losses", "", [("G", [])]) is None
    assert chart_of("Losses", "", [("G", [(5, 1.0)])]) is None


@pytest.mark.parametrize("values", [(0.0, 0.0), (1e20, 1e20), (-1e99, 1e99), (1e-99, 1e99), (5e-324, 1e99)])
def test_any_values_can_be_drawn(values: tuple[float, float]) -> None:
    chart = drawn(chart_of("Losses", "", [("G", list(enumerate(values)))]))
    assert all(0 <= y <= 200 for _, y in points_of(chart.curves[0].path))
    assert 1 <= len(chart.y_ticks) <= 8


def test_lines_keep_their_colors_while_others_have_no_points() -> None:
    named = [("a", []), ("b", [(0, 1.0), (1, 2.0)]), *((str(i), [(0, 1.0), (1, 2.0)]) for i in range(8))]
    curves = drawn(chart_of("", "", named)).curves
    assert (curves[0].name, curves[0].color, curves[0].dashed) == ("b", 1, False)
    assert (curves[-1].color, curves[-1].dashed) == (1, True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5231, "0.523"),
        (12.34, "12.3"),
        (1500, "1,500"),
        (20000, "20k"),
        (1.5e6, "1.5M"),
        (1e-5, "1.0e-05"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text
