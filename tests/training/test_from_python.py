"""``d3gan.train`` in a program or a notebook: what it shows, tells and raises."""

import builtins
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from d3gan import TrainConfig, train
from d3gan.progress_bar import progress_bar, show_progress_bars
from d3gan.runs.checkpoint import checkpoints
from tests.training.test_loop import assert_same_run

Tiny = Callable[..., TrainConfig]


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def without_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that has set up no logging; pytest has."""
    monkeypatch.setattr(logging.getLogger("d3gan"), "hasHandlers", lambda: False)


@pytest.mark.usefixtures("without_handlers")
def test_a_program_sees_messages_and_progress_unless_it_wants_none(
    tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("d3gan")
    before = logger.level, list(logger.handlers)
    train(tiny("shown"))
    shown = capsys.readouterr()
    assert "44 images" in shown.out
    assert re.search(r"^step 22/22  epoch 2\.00 .* left$", shown.out, re.MULTILINE)
    assert (logger.level, list(logger.handlers)) == before
    train(tiny("silent"), None)
    assert capsys.readouterr() == ("", "")


def test_messages_of_a_program_with_its_own_logging_come_once(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], said: list[str]
) -> None:
    train(tiny(max_steps=1))
    assert sum("training d3gan on" in line for line in said) == 1
    assert "training d3gan on" not in capsys.readouterr().out


def test_on_tick_gets_the_lines_of_metrics_jsonl(tiny: Tiny) -> None:
    ticks: list[dict[str, Any]] = []
    run = train(tiny("ticks"), on_tick=ticks.append).run
    assert [line["step"] for line in ticks] == [3, 6, 9, 12, 15, 18, 21, 22]
    assert ticks == lines_of(run)
    ticks[0]["weights"].clear()  # it is the program's own
    assert_same_run(run, train(tiny("plain")).run)


def test_what_on_tick_raises_is_raised_once_the_run_is_saved(tiny: Tiny) -> None:
    class Enough(BaseException):
        pass

    ticks: list[int] = []

    def stop(line: dict[str, Any]) -> None:
        ticks.append(line["step"])
        if line["step"] == 12:
            raise Enough

    with pytest.raises(Enough):
        train(tiny("stopped"), on_tick=stop)
    run = tiny("stopped").run_directory
    assert ticks == [3, 6, 9, 12]
    assert checkpoints(run / "checkpoints")[-1].name == "step-00000012.pt"
    assert train(tiny("stopped")).step == 22
    assert_same_run(run, train(tiny("plain")).run)


def test_ctrl_c_is_raised_once_the_run_is_saved(tiny: Tiny) -> None:
    def interrupt(line: dict[str, Any]) -> None:
        if line["step"] == 9:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGINT at step 10; saved in .*; the same call resumes"):
        train(tiny("stopped"), on_tick=interrupt)
    run = tiny("stopped").run_directory
    assert checkpoints(run / "checkpoints")[-1].name == "step-00000010.pt"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(tiny("stopped"))
    assert_same_run(run, train(tiny("plain")).run)


def test_another_thread_trains_and_on_tick_stops_it(tiny: Tiny) -> None:
    outcomes: list[Any] = []

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 6:
            raise StopIteration("enough")

    def work() -> None:
        try:
            train(tiny("threaded"), on_tick=stop)
        except StopIteration as error:
            outcomes.append(str(error))
        outcomes.append(train(tiny("threaded")).step)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes == ["enough", 22]
    assert_same_run(tiny("threaded").run_directory, train(tiny("plain")).run)


class Cell:
    """What a notebook's cell shows: rich's texts, each with those that it had before."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def display(self, shown: Any, *, display_id: bool) -> Any:
        assert display_id
        texts: list[str] = []
        self.outputs.append(texts)

        class Handle:
            def update(self, shown: Any) -> None:
                texts.append(shown._repr_mimebundle_([], [])["text/html"])

        handle = Handle()
        handle.update(shown)
        return handle


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """As in a notebook's kernel, which rich knows by the name of its shell's class."""
    cell, module = Cell(), ModuleType("IPython.display")
    monkeypatch.setattr(module, "display", cell.display, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    return cell


def test_in_a_notebook_one_output_moves(
    tiny: Tiny, cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(data_dir=str(tmp_path / "data")))
    preparing, bar = cell.outputs
    assert "preparing images" in preparing[0]
    assert "44/44" in preparing[-1]
    assert "0/22" in bar[0]
    assert "22/22" in bar[-1]
    assert "epoch 2.00" in bar[-1]
    assert len(bar) >= 9, "each of the 8 lines is drawn, besides the first state"
    assert "step 22" not in capsys.readouterr().out


def test_a_bar_in_a_notebook(cell: Cell) -> None:
    before = show_progress_bars()
    try:
        with progress_bar("preparing", 30, unit="images") as advance:
            advance(10)
            advance(20)
    finally:
        show_progress_bars(before)
    (bar,) = cell.outputs
    assert "preparing" in bar[0]
    assert "10/30" in bar[0]
    assert "30/30" in bar[-1]


@pytest.mark.slow
def test_a_kernel_shows_messages_and_the_finished_bar(pictures: Path, tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from tests.conftest import tiny_settings

    settings = tiny_settings(pictures, tmp_path / "run")
    notebook = nbformat.v4.new_notebook()
    source = f"from d3gan import TrainConfig, train\ntrain(TrainConfig(**{settings!r})).step"
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [json.dumps(output) for output in notebook.cells[0].outputs]
    assert any("44 images" in text for text in texts)
    assert any("22/22" in text for text in texts)
    assert '"22"' in texts[-1]
