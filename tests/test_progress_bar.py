"""Progress off a terminal: lines in the log, not too many."""

from collections.abc import Iterator

import pytest

from d3gan.progress_bar import progress_bar, show_progress_bars


@pytest.fixture
def bars_on() -> Iterator[None]:
    show_progress_bars()
    yield
    show_progress_bars(False)


@pytest.mark.usefixtures("bars_on")
def test_off_a_terminal_there_is_a_line_from_time_to_time(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("d3gan.progress_bar.time.monotonic", lambda: now)
    with progress_bar("features", 1000, unit="images") as advance:
        for _ in range(40):
            now += 1
            advance(25)
    assert said == [
        "features: 50 of 1,000 images, about 38 s left",
        "features: 300 of 1,000 images, about 28 s left",
        "features: 550 of 1,000 images, about 18 s left",
        "features: 800 of 1,000 images, about 8 s left",
    ]
    said.clear()
    with progress_bar("a.zip", None, unit="bytes") as advance:
        now += 2
        advance(3_000_000)
    assert said == ["a.zip: 3 MB"]


@pytest.mark.usefixtures("bars_on")
def test_what_is_over_soon_says_nothing(said: list[str]) -> None:
    with progress_bar("features", 3, unit="images") as advance:
        advance(3)
    assert not said


def test_programs_that_import_d3gan_see_no_progress(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("d3gan.progress_bar.time.monotonic", lambda: now)
    with progress_bar("features", 1000, unit="images") as advance:
        now += 60
        advance(25)
    assert not said
