"""Samples of several runs through training, side by side."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d3gan.comparison.animation import write_animations, write_side_by_side
from d3gan.comparison.runs import Run
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ExternalError
from d3gan.images import image_grid, save_png


def run_with(folder: Path, variant: str, shades: dict[int, int], seed: int = 0) -> Run:
    """A run whose sample grids are 64 plain images of 16 x 16, one shade per step."""
    grids = []
    for step, shade in shades.items():
        path = folder / f"{variant}-{seed}-{step}.png"
        save_png(image_grid(np.full((64, 1, 16, 16), shade, np.uint8)), path)
        grids.append((step, path))
    config = TrainConfig(image_size=16, nc=1, seed=seed, batch_size=64)
    return Run(folder / f"{variant}-{seed}", config, variant, "mnist", [], [], [], grids)


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(path) as image:
        frames, durations = [], []
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            frames.append(np.asarray(image.convert("L")))
            durations.append(int(image.info["duration"]))
    return frames, durations


def test_each_variant_has_its_panel_and_its_own_step(tmp_path: Path) -> None:
    left = run_with(tmp_path, "dcgan", {0: 40, 100: 80, 200: 120})
    right = run_with(tmp_path, "d3gan", {0: 160, 150: 200, 200: 240})
    assert write_side_by_side([left, right], tmp_path / "both.gif") == 3
    frames, durations = frames_of(tmp_path / "both.gif")
    for frame, (one, other) in zip(frames, ((40, 160), (80, 160), (120, 240)), strict=True):
        half = frame.shape[1] // 2
        # The first image of each side, enlarged twice; right, at step 100, is still as it was at step 0.
        assert abs(int(frame[20, 20]) - one) < 4
        assert abs(int(frame[20, half + 22]) - other) < 4
    assert durations[-1] > durations[0]


def test_the_names_and_the_step_are_written(tmp_path: Path) -> None:
    runs = [run_with(tmp_path, name, {0: 0, 1000: 0}) for name in ("dcgan", "d3gan")]
    write_side_by_side(runs, tmp_path / "both.gif")
    first, second = frames_of(tmp_path / "both.gif")[0]
    grids = 2 * (5 * 18 + 2)
    names, steps = slice(grids, grids + 18), slice(grids + 19, None)
    assert first[names].max() > 200
    assert (first[names] == second[names]).all()
    assert first[names][:, :184].tobytes() != first[names][:, -184:].tobytes(), "another name"
    assert first[steps].max() > 200
    assert (first[steps] != second[steps]).any(), "another step"
    assert first[:grids].max() < 10, "black images"


def test_one_for_each_data_set_and_batch_size(tmp_path: Path) -> None:
    runs = [run_with(tmp_path, name, {0: 0, 9: 90}, seed) for name in ("dcgan", "d3gan") for seed in (1, 0)]
    alone = run_with(tmp_path, "d3gan+lr=1", {0: 0}, seed=0)
    assert write_animations(runs, tmp_path / "made") == [tmp_path / "made" / "mnist-b64.webp"]
    assert write_animations([*runs, alone], tmp_path / "none") == [], "it has one sample grid only"
    assert write_animations(runs[:2], tmp_path / "none") == [], "there is no second variant"
    five = [run_with(tmp_path, f"d3gan+nz={n}", {0: 0, 9: 90}) for n in range(1, 6)]
    names = [path.name for path in write_animations(five, tmp_path / "five")]
    assert names == ["mnist-b64.webp", "mnist-b64-2.webp"]


def test_long_runs_are_thinned_and_torn_grids_left_out(tmp_path: Path) -> None:
    run = run_with(tmp_path, "dcgan", {step: step % 256 for step in range(0, 1000, 10)})
    assert write_side_by_side([run], tmp_path / "long.webp") == 40
    other = run_with(tmp_path, "d3gan", {0: 50, 10: 100, 20: 150})
    other.sample_grids[1][1].write_text("no picture")
    assert write_side_by_side([other], tmp_path / "torn.gif") == 3
    shown = [int(frame[20, 20]) for frame in frames_of(tmp_path / "torn.gif")[0]]
    assert [round(shade, -1) for shade in shown] == [50, 50, 150], "the one before stands in"
    for _, file in other.sample_grids:
        file.write_text("no picture")
    with pytest.raises(ExternalError, match="none of its sample grids can be read"):
        write_side_by_side([other], tmp_path / "torn.gif")
