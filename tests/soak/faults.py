"""Ends tiny runs wherever they write, fills their disk, interrupts commands, and looks at what they leave.

    python -m tests.soak.faults [kills] [disk] [sudden] [interrupts] [growth] [--every N] [--seed S]

kills       kill -9 after every Nth call that changes a file: the same command then ends with the same files
disk        a disk that is full after every Nth 512 bytes, of prepared images, references and the run: one error of
            ours, and the same command then ends with the same files
sudden      20 kills of a process at moments drawn from the seed: likewise
interrupts  Ctrl-C twice, at many moments, of every command: no traceback, and nothing lasts
growth      10,000 steps: neither memory nor the number of open files grows

Without names: all of them. The exit code is 1 if there is a finding; each is printed with what repeats it.
"""

import argparse
import contextlib
import ctypes
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from d3gan import TrainConfig, train
from d3gan.errors import ConfigError, ExternalError
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from d3gan.runs.directory import RunDirectory
from d3gan.training.progress import silent_display
from tests.conftest import tiny_settings
from tests.evaluation.networks import save_only_varied

SHIM = "D3GAN_TESTS_DISK_FAULTS"
"""Environment variable: the library with the faulty file system, where it is loaded."""
TOLD = 7
"""Exit status of a process that ended with an error of ours."""
TIMES = ("images_per_second", "images_per_second_without_data", "peak_memory_bytes")


class Findings:
    """What went wrong, printed as it is found."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self.count += 1


def make_sources(folder: Path) -> None:
    """The files that the runs read: 12 pictures of two classes, and a feature extractor."""
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)):
        path = folder / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        save_only_varied(folder / "network.pt")


def tiny_run(sources: Path, root: Path) -> TrainConfig:
    """Eight steps with everything that is written: checkpoints, best files, averages, samples, prepared images."""
    changes = dict(image_size=16, epochs=4, max_steps=8, checkpoint=3, log_every=2, sample_every=3, ema=0.9)
    evaluation = dict(evaluate_every=3, num_samples=12, features=str(sources / "network.pt"), metrics="fid")
    data = dict(data_dir=str(root / "data"), conditional=True)
    return TrainConfig(**tiny_settings(sources / "pictures", root / "run", **changes, **evaluation, **data))


def contents(root: Path) -> dict[str, str]:
    """What a run left, without times and paths: a value for each file."""
    run, result = RunDirectory(root / "run"), {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = str(path.relative_to(root))
        if path.name.endswith((".lock", "environment.json", "config.ini")):
            continue
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            value: Any = [{k: v for k, v in line.items() if k not in TIMES and "seconds" not in k} for line in lines]
        elif path.suffix == ".pt":
            state = load_checkpoint(path)
            value = _digest({part: state[part] for part in state if part != "metrics_log"})  # it holds seconds
        else:
            value = hashlib.sha256(path.read_bytes()).hexdigest()
        result[name] = json.dumps(value, default=str)
    assert checkpoints(run.checkpoints)
    return result


def _digest(value: Any) -> str:
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            digest.update(part.numpy().tobytes())
        elif isinstance(part, dict):
            for name in sorted(part):
                add(part[name])
        elif isinstance(part, list | tuple):
            for item in part:
                add(item)
        else:
            digest.update(repr(part).encode())

    add(value)
    return digest.hexdigest()


def in_child(work: Callable[[], None], messages: Path) -> tuple[int, str]:
    """Does work in a forked process; its exit code (or minus a signal) and its error, if any."""
    messages.write_text("")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except (ExternalError, ConfigError) as error:
            status = TOLD
            messages.write_text(str(error))
        except BaseException:
            messages.write_text(traceback.format_exc())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), messages.read_text()


class FaultyDisk:
    """Runs of `tiny_run` on a file system that fails. The process must have been started with the library."""

    def __init__(self, sources: Path, scratch: Path) -> None:
        self._sources, self._scratch = sources, scratch
        self._library = ctypes.CDLL(os.environ[SHIM])
        self._library.disk_calls.restype = ctypes.c_long
        root, counts = scratch / "whole", scratch / "counts"

        def whole() -> None:
            self._train(root)
            counts.write_text(str(self._library.disk_calls()))

        self._messages = scratch / "message"
        status, message = in_child(whole, self._messages)
        assert status == 0, message
        self.calls, self.bytes = (
            int(counts.read_text()),
            sum(p.stat().st_size for p in root.rglob("*") if p.is_file()),
        )
        self.expected = contents(root)

    def _train(self, root: Path, kill: int = 0, space: int = -1) -> None:
        self._library.disk_faults(str(root).encode(), ctypes.c_long(kill), ctypes.c_long(space))
        train(tiny_run(self._sources, root), silent_display)

    def trial(self, findings: Findings, kill: int = 0, space: int = -1) -> None:
        """A run that fails, the same again on a sound disk, and what differs from one that never failed."""
        what = f"killed after call {kill} of {self.calls}" if kill else f"room for {space:,} bytes"
        root = self._scratch / "trial"
        shutil.rmtree(root, ignore_errors=True)
        status, message = in_child(lambda: self._train(root, kill, space), self._messages)
        if status not in ((-signal.SIGKILL,) if kill else (TOLD, 0)):
            findings.add(f"{what}: ended with {status}: {message}")
        status, message = in_child(lambda: self._train(root), self._messages)
        if status:
            findings.add(f"{what}: the same again ended with {status}: {message}")
            return
        left = contents(root)
        for name in sorted({*left, *self.expected}):
            if left.get(name) != self.expected.get(name):
                findings.add(f"{what}: {name} is {left.get(name)}, not {self.expected.get(name)}"[:400])


def kills(findings: Findings, every: int, _seed: int, first: int = 1) -> str:
    """See the module."""
    with scratch() as (sources, folder):
        disk = FaultyDisk(sources, folder)
        numbers = range(first, disk.calls + 1, every)
        for number in numbers:
            disk.trial(findings, kill=number)
    return f"{len(numbers)} kills, of {disk.calls} calls"


def full_disk(findings: Findings, every: int, _seed: int) -> str:
    """See the module."""
    with scratch() as (sources, folder):
        disk = FaultyDisk(sources, folder)
        sizes = range(0, disk.bytes, 512 * every)
        for size in sizes:
            disk.trial(findings, space=size)
    return f"{len(sizes)} full disks, up to {disk.bytes:,} bytes"


def program(*words: str | Path) -> list[str]:
    """The command line of d3gan in a process of its own."""
    return [sys.executable, "-m", "d3gan", *(str(word) for word in words)]


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The keys that make a tiny run."""
    names = "dataset out image_size batch_size nz ngf ndf epochs max_steps checkpoint log_every sample_every device "
    names += "precision evaluate_every num_samples features metrics ema data_dir conditional"
    return {name: getattr(config, name) for name in names.split()}


def flags(settings: dict[str, Any]) -> list[str]:
    """Keys as a command line has them."""
    words = []
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def sudden(findings: Findings, every: int, seed: int) -> str:
    """See the module."""
    draw, count = random.Random(seed), max(1, 20 // every)
    with scratch() as (sources, folder):
        words = program("train", *flags(settings_of(tiny_run(sources, folder / "whole"))))
        begin = time.monotonic()
        subprocess.run(words, check=True, capture_output=True)
        seconds = time.monotonic() - begin
        expected = contents(folder / "whole")
        words = program("train", *flags(settings_of(tiny_run(sources, folder / "trial"))))
        for _ in range(count):
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0.3, 1) * seconds)
            process.kill()
            process.wait()
            if draw.random() < 0.3:  # else the next one goes on from here
                shutil.rmtree(folder / "trial", ignore_errors=True)
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode or contents(folder / "trial") != expected:
            findings.add(f"sudden, seed {seed}: exit code {done.returncode}, or other files\n{done.stderr[-2000:]}")
    return f"{count} kills"


def interrupts(findings: Findings, every: int, seed: int) -> str:
    """See the module."""
    draw, count = random.Random(seed), 0
    with scratch() as (sources, folder):
        short = flags(settings_of(tiny_run(sources, folder / "run")))
        subprocess.run(program("train", *short), check=True, capture_output=True)
        run, pictures, network = folder / "run" / "run", sources / "pictures", sources / "network.pt"
        longer = {**settings_of(tiny_run(sources, folder / "long")), "max_steps": 100_000, "epochs": 100_000}
        wide = longer | {"out": folder / "two", "batch_size": 2, "workers_per_node": 2}
        sweep = longer | {"models": "dcgan,d3gan", "seeds": 0, "at_once": 2, "out": folder / "sweep"}
        scale = {"workers": "1,2", "out": folder / "scale", "image_size": 16, "seconds": 2, "device": "cpu"}
        commands: list[list[Any]] = [
            ["train", *flags(longer)],
            ["train", *flags(wide)],
            ["compare", *flags(sweep)],
            ["scale", *flags(scale)],
            ["evaluate", run, "--features", network, "--num-samples", "2000", "--metrics", "fid"],
            ["evaluate", "--images", pictures, "--reference", pictures, "--features", network, "--metrics", "fid"],
            ["sample", run, "--num", "5000", "--out", folder / "grid.png"],
            ["sample", run, "--animate", "--out", folder / "film.webp"],
            ["export", run, "--format", "onnx", "--out", folder / "g.onnx"],
            ["report", run, "--out", folder / "page.html"],
            ["watch", folder],
            ["info", run],
            ["runs", folder],
            ["export", run, "--format", "hub", "--out", folder / "hub"],
            ["data", "list"],
            ["models"],
            ["presets"],
        ]
        for words in commands:
            for wait in [0.05, 0.3, 1.0, 2.0, 4.0, 8.0][::every]:
                again, count = draw.choice([0.02, 0.2, 1.0, 3.0]), count + 1
                findings_of_one(findings, program(*words), wait, again)
    return f"{count} commands interrupted twice"


def findings_of_one(findings: Findings, words: list[str], wait: float, again: float) -> None:
    """One command, two signals to its process group, as a terminal sends them."""
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    what = f"{' '.join(words[2:])[:150]}: Ctrl-C after {wait:g} s and {again:g} s"
    for pause in (wait, again):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(pause)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGINT)
    try:
        output = process.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
        findings.add(f"{what}: still there after two minutes\n{output[-1500:]}")
        return
    # Before Python has read a line of ours, an interrupt ends it by the signal, or with a traceback of its own.
    if "Fatal Python error: init" in output or ("Traceback" in output and f"{os.sep}d3gan{os.sep}" not in output):
        return
    if process.returncode not in (0, 130, -signal.SIGINT):
        findings.add(f"{what}: exit code {process.returncode}\n{output[-1500:]}")
    if process.returncode != -signal.SIGINT and ("Traceback" in output or "please report" in output):
        findings.add(f"{what}: a traceback\n{output[-3000:]}")
    left = [p for p in psutil.process_iter(["cmdline"]) if _is_left(p, process.pid)]
    if left:
        findings.add(f"{what}: left processes {[p.pid for p in left]}")
        for p in left:
            p.kill()


def _is_left(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.Error):
        return False


def growth(findings: Findings, every: int, _seed: int) -> str:
    """See the module."""
    steps = 10_000 // every
    with scratch() as (_, folder):
        words = ["train", "--dataset", "ring8", "--out", folder / "run", "--max-steps", steps, "--epochs", "100000"]
        widths = ["--batch-size", "16", "--ngf", "8", "--ndf", "8", "--checkpoint", steps // 50]
        often = ["--log-every", "20", "--evaluate-every", steps // 20, "--num-samples", "500"]
        command = program(*map(str, [*words, *widths, *often, "--device", "cpu", "--data-dir", folder / "data"]))
        with (folder / "log").open("w") as log:
            process = psutil.Popen(command, stdout=log, stderr=log)
            seen: list[tuple[int, int, int]] = []  # step, bytes, open files
            while process.poll() is None:
                time.sleep(0.1)
                with contextlib.suppress(psutil.Error, FileNotFoundError, IndexError, ValueError):
                    step = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
                    seen.append((step, process.memory_info().rss, process.num_fds()))
        if process.returncode:
            findings.add(f"growth: exit code {process.returncode}\n{(folder / 'log').read_text()[-1500:]}")
            return "nothing measured"
    # Caches fill in the first fifth. Open files differ while one is written.
    early = [line for line in seen if steps // 5 <= line[0] < steps // 2]
    late = [line for line in seen if line[0] >= steps * 3 // 4]
    (memory, files), (memory_later, files_later) = (
        (float(np.median([line[1] for line in lines])), float(np.median([line[2] for line in lines])))
        for lines in (early, late)
    )
    if memory_later > memory + (8 << 20):
        findings.add(f"growth: {memory:,.0f} bytes early, {memory_later:,.0f} late")
    if files_later > files:
        findings.add(f"growth: {files:g} open files early, {files_later:g} late")
    mebibytes = f"{memory / 2**20:.1f} and {memory_later / 2**20:.1f} MiB"
    return f"{steps:,} steps, memory {mebibytes}, open files {files:g} and {files_later:g}"


@contextlib.contextmanager
def scratch() -> Iterator[tuple[Path, Path]]:
    """Folders for the sources and for the runs, both removed at the end."""
    with tempfile.TemporaryDirectory() as name:
        sources, folder = Path(name, "sources").resolve(), Path(name, "runs").resolve()
        sources.mkdir()
        folder.mkdir()
        make_sources(sources)
        yield sources, folder


ATTACKS = {"kills": kills, "disk": full_disk, "sudden": sudden, "interrupts": interrupts, "growth": growth}
ON_A_FAULTY_DISK = {"kills", "disk"}


def with_faulty_disk(words: list[str]) -> int:
    """Starts this program again with the faulty file system beneath it; its exit code."""
    with tempfile.TemporaryDirectory() as name:
        library = Path(name, "disk_faults.so")
        source = Path(__file__).with_name("disk_faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), SHIM: str(library), "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-m", "tests.soak.faults", *words], env=environment).returncode


def main() -> int:
    """Prints a line for each attack; 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", choices=[[], *ATTACKS], default=[], metavar="ATTACK")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("d3gan").addHandler(logging.NullHandler())
    logging.getLogger("d3gan").propagate = False
    torch.set_num_threads(1)
    failed = False
    for name in options.attacks or list(ATTACKS):
        if name in ON_A_FAULTY_DISK and SHIM not in os.environ:
            failed |= with_faulty_disk([name, "--every", str(options.every)]) != 0
            continue
        findings, begin = Findings(), time.monotonic()
        text = ATTACKS[name](findings, options.every, options.seed)
        seconds = time.monotonic() - begin
        print(f"{name}: {text}: {findings.count} findings in {seconds:,.0f} s", flush=True)
        failed |= findings.count > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
