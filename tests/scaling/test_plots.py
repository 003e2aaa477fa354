from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from d3gan import plotting
from d3gan.errors import ExternalError
from d3gan.scaling import plots as scaling_plots
from d3gan.scaling.plots import write_plots
from d3gan.scaling.projection import projection_record
from d3gan.scaling.published import PUBLISHED
from tests.scaling.documents import document

ALWAYS = {"throughput.png", "epoch_time.png", "speedup.png", "time_split.png"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """What was drawn, by file name; the files are written as well."""
    found: dict[str, Figure] = {}
    save = plotting.save

    def keep(figure: Figure, path: Path) -> None:
        found[path.name] = figure
        save(figure, path)

    monkeypatch.setattr(scaling_plots, "save", keep)
    return found


def with_projection(upto: int, **choices: Any) -> dict[str, Any]:
    measured = document(**choices)
    return {**measured, "projection": projection_record(measured, upto)}


def values(axes: Axes, label: str) -> list[float]:
    """The heights of the line with this label."""
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer) and container.get_label() == label:
            return [float(value) for value in np.asarray(container.lines[0].get_ydata())]
    (line,) = (line for line in axes.get_lines() if line.get_label() == label)
    return [float(value) for value in np.asarray(line.get_ydata())]


def medians(measured: dict[str, Any], model: str, batch_size: int, quantity: str) -> list[float]:
    rows = measured["rows"]
    return [r[quantity]["median"] for r in rows if r["model"] == model and r["batch_size"] == batch_size]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_every_plot_is_a_whole_png_of_its_size_and_not_blank(tmp_path: Path) -> None:
    paths = write_plots(with_projection(64), tmp_path / "new" / "plots")
    names = [path.name for path in paths]
    assert set(names) == ALWAYS | {"utilization.png", "batch_size.png", "projection.png"}
    assert len(set(names)) == len(names)
    assert sorted(path.name for path in (tmp_path / "new" / "plots").iterdir()) == sorted(names)
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
            assert image.width == 1050
            assert image.height > 675 if path.name == "projection.png" else image.height == 675
            pixels = np.asarray(image.convert("RGB"))
        for color in ((0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):  # d3gan's, and computation's
            if (pixels == color).all(axis=-1).sum() > 200:
                break
        else:
            pytest.fail(f"{path.name} shows nothing")


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    paths = write_plots(document(batch_sizes=(64,), utilization=None), tmp_path)
    assert {path.name for path in paths} == ALWAYS


def test_utilisation_is_drawn_where_only_some_rows_have_it(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    measured = document((1, 2))
    for row in measured["rows"]:
        if row["model"] == "dcgan" or row["workers"] == 1:
            row["utilization"] = None
    write_plots(measured, tmp_path)
    (axes,) = drawn["utilization.png"].axes
    expected = next(r for r in measured["rows"] if r["utilization"])["utilization"]["median"]
    assert values(axes, "d3gan") == pytest.approx([100 * expected])
    assert axes.get_ylabel() == "CPU utilisation, %\n(busy share of the process's threads)"
    write_plots({**measured, "device": "cuda"}, tmp_path)
    assert drawn["utilization.png"].axes[0].get_ylabel() == "GPU utilisation, %"


def test_plots_by_workers_show_the_first_batch_size_and_say_so(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    measured = document(batch_sizes=(128, 64))
    write_plots(measured, tmp_path)
    for name, quantity in (("throughput.png", "images_per_second"), ("epoch_time.png", "epoch_seconds")):
        for model in ("dcgan", "d3gan"):
            assert values(drawn[name].axes[0], model) == medians(measured, model, 128, quantity)
        assert "batch size 128 per process" in texts(drawn[name])
    ideal = drawn["throughput.png"].axes[0].get_lines()
    tops = [
        np.asarray(line.get_ydata(), dtype=float).max(initial=0) for line in ideal if line.get_linestyle() == "--"
    ]
    assert max(tops) == pytest.approx(4 * medians(measured, "dcgan", 128, "images_per_second")[0])


def test_bars_reach_from_the_smallest_to_the_largest(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    measured = document((1, 2), (64,), ("d3gan",))
    measured["rows"][1]["images_per_second"] = {"median": 100.0, "low": 70.0, "high": 110.0}
    write_plots(measured, tmp_path)
    (container,) = drawn["throughput.png"].axes[0].containers
    assert isinstance(container, ErrorbarContainer)
    (bars,) = container.lines[2]
    assert sorted(np.asarray(bars.get_paths()[1].vertices)[:, 1].tolist()) == [70.0, 110.0]


@pytest.mark.parametrize("mode", ["weak", "strong"])
def test_speed_up_is_the_ratio_of_throughputs(mode: str, tmp_path: Path, drawn: dict[str, Figure]) -> None:
    measured = document((1, 2, 4), (64,), mode=mode)
    write_plots(measured, tmp_path)
    rates = [r["images_per_second"]["median"] for r in measured["rows"] if r["model"] == "d3gan"]
    left, right = drawn["speedup.png"].axes
    assert values(left, "d3gan") == pytest.approx([rate / rates[0] for rate in rates])
    assert values(right, "d3gan") == pytest.approx(
        [rate / rates[0] / n for rate, n in zip(rates, (1, 2, 4), strict=True)]
    )
    assert ("global batch size 64" if mode == "strong" else "batch size 64 per process") in texts(
        drawn["speedup.png"]
    )


def test_without_one_worker_efficiency_is_relative_to_the_fewest(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    write_plots(document((2, 4), (64,)), tmp_path)
    left, right = drawn["speedup.png"].axes
    assert values(right, "d3gan")[0] == pytest.approx(1)
    assert values(left, "d3gan")[0] == pytest.approx(2)
    assert left.get_ylabel() == "times 1/2 of 2 workers' throughput"


def test_the_parts_of_a_step_are_stacked(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    measured = document((1, 2), (64,), ("dcgan", "d3gan"))
    write_plots(measured, tmp_path)
    (axes,) = drawn["time_split.png"].axes
    tops: dict[float, float] = {}
    for bar in axes.patches:
        place, foot, height = bar.get_x(), bar.get_y(), bar.get_height()  # type: ignore[attr-defined]
        assert foot == pytest.approx(tops.get(place, 0.0))
        tops[place] = foot + height
    assert sorted(tops.values()) == pytest.approx(
        sorted(1000 * r["step_seconds"]["median"] for r in measured["rows"])
    )


def test_a_batch_size_that_some_workers_cannot_divide_is_a_gap(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    measured = document((1, 3), (64, 96), ("d3gan",), mode="strong")
    # 64 / 3 is none: 63 stands for what the command would have left out.
    measured["rows"] = [r for r in measured["rows"] if r["global_batch_size"] != 63]
    write_plots(measured, tmp_path)
    (axes,) = drawn["batch_size.png"].axes
    assert len(values(axes, "d3gan, 1 worker")) == 2
    assert len(values(axes, "d3gan, 3 workers")) == 1
    assert len(values(drawn["throughput.png"].axes[0], "d3gan")) == 1


def test_a_number_of_workers_without_any_row_is_left_out(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    measured = document((1, 3), (64, 128), ("d3gan",), mode="strong")
    measured["rows"] = [r for r in measured["rows"] if r["workers"] == 1]
    write_plots(measured, tmp_path)
    labels = drawn["batch_size.png"].axes[0].get_legend_handles_labels()[1]
    assert labels == ["d3gan, 1 worker"]


def test_a_first_batch_size_that_nobody_can_divide_gives_way_to_the_next(
    tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    measured = document((3,), (64, 96), ("d3gan",), mode="strong")
    measured["rows"] = [r for r in measured["rows"] if r["global_batch_size"] == 96]
    write_plots(measured, tmp_path)
    assert "global batch size 96" in texts(drawn["time_split.png"])


@pytest.mark.parametrize("models", [("d3gan",), ("dcgan", "d3gan")])
def test_published_figures_are_shown_for_the_models_at_hand(
    models: tuple[str, ...], tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    write_plots(document((1, 2), (64,), models), tmp_path, published=True)
    for name in ("throughput.png", "epoch_time.png", "utilization.png", "speedup.png"):
        for axes in drawn[name].axes:
            labels = [label for label in axes.get_legend_handles_labels()[1] if "published" in label]
            assert sorted(labels) == sorted(f"published {model.upper()}, V100" for model in models)
        assert "CIFAR-10" in texts(drawn[name])
    rates = [run.images_per_second for run in PUBLISHED["d3gan"]]
    assert [round(rate) for rate in rates] == [4172, 4071, 6118, 7824]
    label = "published D3GAN, V100"
    assert values(drawn["throughput.png"].axes[0], label) == rates
    assert values(drawn["utilization.png"].axes[0], label) == pytest.approx([91.1, 44.5, 46.3, 44.0])
    assert values(drawn["speedup.png"].axes[1], label) == pytest.approx(
        [r / rates[0] / (i + 1) for i, r in enumerate(rates)]
    )
    write_plots(document((1, 2), (64,), models), tmp_path)
    assert not any("ublished" in texts(figure) for figure in drawn.values())


def test_the_projection_shows_measured_and_projected_and_its_assumptions(
    tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    measured = with_projection(1024)
    write_plots(measured, tmp_path)
    figure = drawn["projection.png"]
    left, right = figure.axes
    record = measured["projection"]["models"]["d3gan"]
    assert values(left, "d3gan, ring, projected") == record["ring"]["images_per_second"]
    assert values(right, "d3gan, tree (bound), projected") == record["tree"]["efficiency"]
    assert values(left, "d3gan, measured") == medians(measured, "d3gan", 64, "images_per_second")
    rates = medians(measured, "d3gan", 64, "images_per_second")
    shares = [rate / rates[0] / workers for rate, workers in zip(rates, (1, 2, 4), strict=True)]
    assert values(right, "d3gan, measured") == pytest.approx(shares)
    assert left.get_xscale() == right.get_xscale() == "log"
    assert "projected, not measured" in texts(figure)
    printed = " ".join(texts(figure).split())
    for sentence in measured["projection"]["assumptions"]:
        assert " ".join(sentence.split()) in printed


CROWDED = {
    "one process": document((1,), (64,), ("d3gan",), utilization=None),
    "two models": with_projection(1024, exposed=1.7),
    "many": {
        **with_projection(4096, workers=(1, 2, 4, 8, 16, 32, 64), batch_sizes=(64, 128, 256, 512)),
        "device_name": "A processor with a name of far too many words " * 4,
        "command": ["d3gan", "scale", "--out", "a folder/" * 60],
        "hosts": 8,
    },
    "three models": document((1, 2, 3), (64, 128), ("dcgan", "d3gan", "dcgan")),
}


@pytest.mark.parametrize("name", CROWDED)
def test_no_text_or_legend_or_axes_lies_on_another_or_outside(
    name: str, tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    write_plots(CROWDED[name], tmp_path, published=True)
    for file, figure in drawn.items():
        parts = [text.get_window_extent() for text in figure.texts]
        parts += [legend.get_window_extent() for legend in figure.legends]
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert box
            parts.append(box)
        for box in parts:
            assert box.x0 >= 0, file
            assert box.y0 >= 0, file
            assert box.x1 <= figure.bbox.x1, file
            assert box.y1 <= figure.bbox.y1, file
        for one, other in combinations(parts, 2):
            width = min(one.x1, other.x1) - max(one.x0, other.x0)
            height = min(one.y1, other.y1) - max(one.y0, other.y0)
            # Lines of text touch by a descender's depth.
            assert width <= 1 or height <= 2, (file, one, other)


def test_any_text_may_stand_in_a_device_name_or_a_command(tmp_path: Path) -> None:
    text = "50 $ a $x^{2$ hour 日本語 \u0627\u0644 \U0001f600 a\nb\tc\x1b[0m \udcff"
    measured = {**document((1, 2), (64,), ("d3gan",)), "device_name": text, "command": ["d3gan", "scale", text]}
    for path in write_plots(measured, tmp_path):
        with Image.open(path) as image:
            image.load()


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_plots(document((1, 2), (64,), ("d3gan",)), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_the_same_document_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_plots(document((1,), (64,)), tmp_path / name) for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_a_folder_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(ExternalError, match="plots"):
        write_plots(document((1,)), tmp_path / "plots")
