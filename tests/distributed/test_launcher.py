"""Which of several processes' errors a user is told."""

import json
import signal
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from d3gan.distributed.exit import LAUNCHED, report
from d3gan.distributed.launcher import explained
from d3gan.errors import ConfigError, ExternalError, PeerLostError


def failure(folder: Path, rank: int, error: Exception | int, monkeypatch: pytest.MonkeyPatch) -> ProcessFailure:
    """What PyTorch's launcher knows of a process that reported an error, or ended with a code."""
    file = folder / str(rank) / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    monkeypatch.setenv(LAUNCHED, "1")
    if isinstance(error, Exception):
        report("d3gan", error)
    found = ProcessFailure(rank, 100 + rank, error if isinstance(error, int) else 1, str(file))
    found.timestamp = int(time.time()) + rank
    return found


LOST, FULL, BAD = (
    PeerLostError("step 4: lost contact"),
    ExternalError("disk: full"),
    ConfigError("lr = -1: must be more"),
)


@pytest.mark.parametrize(
    ("errors", "kind", "text"),
    [
        ([LOST, FULL], ExternalError, "disk: full"),
        ([LOST, BAD], ConfigError, "lr = -1: must be more"),
        (
            [LOST, -signal.SIGKILL],
            ExternalError,
            "rank 1 (pid 101) was ended by SIGKILL; the system may have run out of memory; go on so",
        ),
        ([-signal.SIGTERM, LOST], ExternalError, "step 4: lost contact"),
        ([-signal.SIGTERM, 3], ExternalError, "rank 1 (pid 101) ended with code 3; go on so"),
        ([FULL, -signal.SIGKILL], ExternalError, "disk: full"),
        ([LOST, LOST], ExternalError, "step 4: lost contact"),
    ],
)
def test_the_cause_is_told_and_not_what_others_noticed_of_it(
    errors: list[Exception | int], kind: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {rank: failure(tmp_path, rank, error, monkeypatch) for rank, error in enumerate(errors)}
    error = explained(ChildFailedError("d3gan", failures), "go on so")
    assert type(error) is kind
    assert str(error).startswith(text)


def test_a_file_that_says_nothing_is_no_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = {rank: failure(tmp_path, rank, 1, monkeypatch) for rank in range(2)}
    for rank, text in enumerate(["{", json.dumps({"message": "by another program"})]):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "error.json").write_text(text)
    error = explained(ChildFailedError("d3gan", failures), "go on so")
    assert str(error) == "rank 0 (pid 100) ended with code 1; go on so"
