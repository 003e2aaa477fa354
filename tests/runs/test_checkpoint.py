import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d3gan.errors import ExternalError
from d3gan.runs.checkpoint import checkpoints, latest_checkpoint, load_checkpoint, save_checkpoint

STATE = {"weights": torch.arange(300.0), "names": ["a", "b"], "nested": {"x": 1.5}}


def steps(folder: Path) -> list[int]:
    return [int(path.stem[5:]) for path in checkpoints(folder)]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = load_checkpoint(save_checkpoint(tmp_path / "new", 7, STATE))
    assert state["step"] == 7
    assert torch.equal(state["weights"], STATE["weights"])  # type: ignore[arg-type]
    assert (state["names"], state["nested"]) == (["a", "b"], {"x": 1.5})


def test_the_last_two_are_kept_in_order_of_their_steps(tmp_path: Path) -> None:
    for step in (5, 99_999_999, 100_000_000, 100_000_001):
        save_checkpoint(tmp_path, step, STATE)
    assert steps(tmp_path) == [100_000_000, 100_000_001]


def test_leftovers_of_a_killed_process_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "step-00000003.pt.tmp").write_bytes(b"half")
    save_checkpoint(tmp_path, 4, STATE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004.pt"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_goes_unnoticed(data: st.DataObject, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, STATE)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        state = load_checkpoint(path)
    except ExternalError as error:
        assert str(path) in str(error)
        return
    # A flipped bit in the archive's own bookkeeping (a date, say) may be harmless; what is loaded must be right.
    assert torch.equal(state["weights"], STATE["weights"])  # type: ignore[arg-type]
    assert (state["step"], state["names"], state["nested"]) == (1, STATE["names"], STATE["nested"])


class Payload:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("planted",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "step-00000001.pt"
    torch.save({"format": 1, "step": 1, "x": Payload()}, path)
    with pytest.raises(ExternalError, match="no usable checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ExternalError, match="no usable checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "planted").exists()


def test_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.pt"
    torch.save({"format": 99, "step": 1}, path)
    with pytest.raises(ExternalError, match="format 99"):
        load_checkpoint(path)


def test_a_damaged_one_is_set_aside_for_an_older_one(tmp_path: Path, said: list[str]) -> None:
    save_checkpoint(tmp_path, 1, STATE)
    save_checkpoint(tmp_path, 2, STATE).write_bytes(b"damaged")
    said.clear()
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1
    assert len(said) == 1
    assert "step-00000002.pt" in said[0]
    assert (tmp_path / "step-00000002.pt.damaged").read_bytes() == b"damaged"


def test_none_usable_is_an_error_however_often_it_is_asked_and_none_at_all_is_not(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    for step in (1, 2):
        save_checkpoint(tmp_path, step, STATE)
    for path in checkpoints(tmp_path):
        path.write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(ExternalError, match="no usable checkpoint is left"):
            latest_checkpoint(tmp_path)
    assert steps(tmp_path) == [1, 2], "nothing is renamed where nothing can take its place"


def test_a_checkpoint_of_another_version_stops_the_run_and_stays(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, STATE)
    torch.save({"format": 99, "step": 2}, tmp_path / "step-00000002.pt")
    with pytest.raises(ExternalError, match="format 99"):
        latest_checkpoint(tmp_path)
    assert steps(tmp_path) == [1, 2]


def test_a_failed_save_leaves_the_older_ones_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path, 1, STATE)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExternalError, match=r"step-00000002\.pt: No space left on device; free some space there"):
        save_checkpoint(tmp_path, 2, STATE)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_packed_records_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"weights": torch.zeros(5_000_000)})
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(ExternalError, match="is packed, which records of checkpoints are not"):
            load_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_records_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"a": torch.ones(100_000), "b": torch.ones(100_000)})
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first, second = (archive.getinfo(f"archive/data/{i}").header_offset for i in range(2))
    # The directory says of the second record that it is where the first one is.
    directory = content.index(b"PK\1\2")
    moved = content[:directory] + content[directory:].replace(struct.pack("<I", second), struct.pack("<I", first))
    without = moved[:second] + moved[second + 400_000 :]
    end = without.rindex(b"PK\5\6")
    at = struct.unpack_from("<I", without, end + 16)[0] - 400_000
    path.write_bytes(without[: end + 16] + struct.pack("<I", at) + without[end + 20 :])
    with pytest.raises(ExternalError, match="no usable checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "value", [bytearray(10), {1, 2}, torch.Size([1]), torch.float32, torch.nn.Parameter(torch.ones(1))]
)
def test_what_no_checkpoint_of_ours_names_is_refused(value: object, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"x": value})
    with pytest.raises(ExternalError, match=r"no usable checkpoint \(it names .* which no checkpoint has"):
        load_checkpoint(path)


@pytest.mark.parametrize("step", [-1, 1.0, float("nan"), True, "1", None, 10**30, 2])
def test_a_step_that_is_none_or_another_is_damage(step: object, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, STATE)
    torch.save({"format": 1, "step": step, **STATE}, tmp_path / "step-00000007.pt")
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1
    assert (tmp_path / "step-00000007.pt.damaged").exists()


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_a_fifo_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "step-00000001.pt")
    with pytest.raises(ExternalError, match="is a FIFO, not a file"):
        load_checkpoint(tmp_path / "step-00000001.pt")
