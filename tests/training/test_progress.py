import io
from typing import Any

import pytest
from rich.console import Console

from d3gan.training import progress

LINE: dict[str, Any] = dict(
    step=50,
    images_seen=6400,
    epoch=0.1067,
    generator_loss=1.25,
    real_losses=[0.5, 0.25],
    fake_losses=[0.75, 1.0],
    weights=[0.4, 0.6],
    images_per_second=1280.0,
)


def test_a_tick_in_words() -> None:
    text = progress.summary(LINE)
    assert text == (
        "epoch 0.11  1,280 images/s  G 1.250  "
        "D0 real 0.500 fake 0.750 weight 0.40  D1 real 0.250 fake 1.000 weight 0.60"
    )
    assert "weight" not in progress.summary(LINE | dict(real_losses=[1.0], fake_losses=[1.0], weights=[1.0]))


def test_plain_lines_tell_the_time_left_and_come_seldom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("d3gan.training.progress.time.monotonic", lambda: now)
    lines = progress.PlainLines(total_steps=10_050)
    lines.show(LINE)  # 10,000 steps of 128 images at 1,280 images/s: 1,000 s
    now += 1
    lines.show(LINE | {"step": 60})
    now += 10
    lines.show(LINE | {"step": 70})
    lines.show(LINE | {"step": 10_050, "images_seen": 128 * 10_050})
    output = capsys.readouterr().out.splitlines()
    estimate = output.pop(1)
    assert estimate == "about 17 min of training at this rate; Ctrl-C saves, the same command resumes"
    assert [line.split()[1] for line in output] == ["50/10050", "70/10050", "10050/10050"]
    assert output[0].endswith("0:16:40 left")
    assert output[-1].endswith("0:00:00 left")


@pytest.mark.parametrize(("seconds", "text"), [(59.9, ""), (90, "90 s"), (3590, "1 h 0 min"), (12_000, "3 h 20 min")])
def test_the_estimate_is_in_round_numbers(seconds: float, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    progress.say_estimate(seconds)
    output = capsys.readouterr().out
    assert output.startswith(f"about {text} of training") if text else not output


def test_on_a_terminal_of_80_columns_there_are_a_bar_steps_time_left_and_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console = Console(force_terminal=True, width=80, record=True, file=io.StringIO())
    monkeypatch.setattr("d3gan.training.progress.Console", lambda: console)
    said: list[str] = []
    monkeypatch.setattr("d3gan.training.progress.say", said.append)
    with progress.terminal_display(10_050, 10) as screen:
        screen.advance(50)
        screen.show(LINE)
        screen.show(LINE)
    assert [text.split(" of ")[0] for text in said] == ["about 17 min"], "once"
    first, second = console.export_text().splitlines()[-2:]
    assert "50/10050" in first
    assert "left" in first
    assert second.startswith("epoch 0.11  1,280 images/s  G 1.250  D0 real 0.500 fake 0.750")
    assert len(second) <= 80
