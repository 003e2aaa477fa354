"""Who holds up the others, from what the processes last said of themselves."""

import dataclasses
import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from d3gan.distributed.watchdog import Beat, Watch, culprits
from d3gan.errors import ExternalError


def beats(*progress: int) -> dict[int, Beat]:
    return {
        rank: Beat(7, at, f"step {at}", "host-a" if rank < 2 else "host-b", 100 + rank, 1)
        for rank, at in enumerate(progress)
    }


def later(found: dict[int, Beat], *silent: int) -> dict[int, Beat]:
    return {r: beat if r in silent else dataclasses.replace(beat, count=beat.count + 3) for r, beat in found.items()}


def test_a_silent_process_is_named_though_another_is_behind_it() -> None:
    before = beats(9, 8, 7)
    told = culprits(before, later(before, 1), 3)
    assert told == "rank 1 (pid 101 on host-a) has gone silent; last seen at step 8"


def test_silent_hosts_are_named_rank_by_rank() -> None:
    before = beats(9, 9, 9, 9)
    told = culprits(before, later(before, 2, 3), 4)
    assert told.count("on host-b) has gone silent") == 2
    assert "host-a" not in told


def test_of_living_processes_those_furthest_behind_are_named() -> None:
    before = beats(9, 8, 9)
    assert culprits(before, later(before), 3) == "rank 1 (pid 101 on host-a) is stuck; last seen at step 8"


def test_processes_at_one_place_are_not_blamed() -> None:
    before = beats(9, 9)
    assert culprits(before, later(before), 2) == ""


def test_a_process_that_never_spoke_is_named() -> None:
    before = beats(9)
    assert culprits(before, later(before), 2) == "rank 1 was never heard from"


def test_a_watch_ends_what_does_not_go_on_and_leaves_the_rest_alone() -> None:
    store = HashStore()
    store.set_timeout(timedelta(seconds=5))
    ended: list[ExternalError] = []
    done = threading.Event()

    def end(error: ExternalError) -> None:
        ended.append(error)
        done.set()

    with Watch(store, 0, 2, 0.8, end) as hung, Watch(store, 1, 2, 0.8, ended.append) as lively:
        hung.heartbeat("step 4")
        begin, step = time.monotonic(), 0
        while not done.wait(0.02) and time.monotonic() < begin + 20:
            lively.heartbeat(f"step {step}")
            step += 1
    assert len(ended) == 1
    assert str(ended[0]).startswith("step 4: rank 0 has made no progress for 1 s: rank 0")
    assert "is stuck; last seen at step 4" in str(ended[0])


def test_a_store_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(HashStore):
        def check(self, _keys: list[str]) -> bool:
            raise RuntimeError("no route to host")

    monkeypatch.setenv("MASTER_ADDR", "node0")
    monkeypatch.setenv("MASTER_PORT", "29400")
    ended: list[str] = []
    watch = Watch(Deaf(), 1, 2, 0.2, lambda error: ended.append(str(error)))
    with watch:
        watch.heartbeat("step 1")
        while not ended:
            time.sleep(0.01)
    assert "and node0:29400, where rank 0 serves the store, does not answer" in ended[0]


def test_before_the_first_step_nothing_is_ended() -> None:
    ended: list[ExternalError] = []
    with Watch(HashStore(), 0, 1, 0.2, ended.append):
        time.sleep(0.8)
    assert not ended
