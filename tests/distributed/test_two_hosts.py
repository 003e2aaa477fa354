"""Two hosts on one machine: two network namespaces joined by a pair of virtual Ethernet devices.

Needs root and iproute2, and a kernel that lets us; elsewhere the tests are skipped and say why.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from d3gan.runs.checkpoint import checkpoints
from tests.distributed.processes import ROOT, wait_for
from tests.distributed.test_train import last_step, whole, words  # noqa: F401  # whole is a fixture
from tests.training.test_loop import assert_same_run

pytestmark = pytest.mark.two_hosts

Start = Callable[..., "subprocess.Popen[str]"]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """Two namespaces, ``names``, with the addresses 10.231.7.1 and 10.231.7.2."""

    def __init__(self) -> None:
        self.names = [f"d3gan-{os.getpid()}-{i}" for i in (1, 2)]
        self.links = [f"d3g{os.getpid() % 100000}{side}" for side in "ab"]

    def make(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1])
        for i, (name, link) in enumerate(zip(self.names, self.links, strict=True), start=1):
            ip("link", "set", link, "netns", name)
            ip("-n", name, "addr", "add", f"10.231.7.{i}/24", "dev", link)
            ip("-n", name, "link", "set", "lo", "up")
        self.link("up")

    def link(self, state: str) -> None:
        """Puts the link up, or cuts it."""
        for name, link in zip(self.names, self.links, strict=True):
            ip("-n", name, "link", "set", link, state)

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two hosts on one machine need root and iproute2")
    made = Hosts()
    try:
        made.make()
    except (subprocess.CalledProcessError, OSError) as error:
        made.remove()
        pytest.skip(f"this kernel makes no network namespaces: {getattr(error, 'stderr', error)}")
    yield made
    made.remove()


@pytest.fixture
def start(hosts: Hosts, pictures: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts ``d3gan train`` with one process on a host, both outputs into log-HOST."""
    running: list[subprocess.Popen[str]] = []

    def on(host: int, port: int, **changes: object) -> "subprocess.Popen[str]":
        flags = ["--nnodes=2", "--workers-per-node=1", f"--rdzv-endpoint=10.231.7.1:{port}"]
        command = [sys.executable, "-m", "d3gan", "train", *flags, *words(pictures, tmp_path / "run", **changes)]
        with (tmp_path / f"log-{host}").open("w") as log:
            inside = ["ip", "netns", "exec", hosts.names[host], *command]
            running.append(subprocess.Popen(inside, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, text=True))
        return running[-1]

    yield on
    hosts.link("up")
    for launcher in running:
        if launcher.poll() is None:
            launcher.kill()
            launcher.wait()


def test_two_hosts_train_as_two_processes_of_one(start: Start, whole: Path, tmp_path: Path) -> None:  # noqa: F811
    launchers = [start(host, 29411) for host in (0, 1)]
    logs = [tmp_path / f"log-{host}" for host in (0, 1)]
    assert [launcher.wait(100) for launcher in launchers] == [0, 0], [log.read_text() for log in logs]
    assert "2 processes" in logs[0].read_text() + logs[1].read_text()
    assert sum("done: 300 steps" in log.read_text() for log in logs) == 1
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.slow
def test_a_cut_link_ends_both_hosts_and_the_run_goes_on_later(
    start: Start,
    hosts: Hosts,
    whole: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    launchers = [start(host, 29412, timeout=5) for host in (0, 1)]
    wait_for(lambda: last_step(tmp_path / "run") >= 40)
    hosts.link("down")
    assert [launcher.wait(90) for launcher in launchers] == [1, 1]
    for host in (0, 1):
        last = (tmp_path / f"log-{host}").read_text().splitlines()[-1]
        assert re.search(
            r"d3gan: error: .*step \d+: (rank \d has made no progress|rank \d on .* lost contact)", last
        ), last
    assert checkpoints(tmp_path / "run" / "checkpoints")
    hosts.link("up")
    launchers = [start(host, 29413) for host in (0, 1)]
    assert [launcher.wait(100) for launcher in launchers] == [0, 0]
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.slow
def test_unequal_configs_are_told_on_both_hosts(start: Start, tmp_path: Path) -> None:
    launchers = [start(host, 29414, batch_size=size) for host, size in ((0, 4), (1, 2))]
    assert [launcher.wait(60) for launcher in launchers] == [2, 2]
    for host in (0, 1):
        lines = (tmp_path / f"log-{host}").read_text().splitlines()
        assert len(lines) == 1
        assert re.search(r"d3gan: error: batch_size = \d in rank 1 on .*, \d in rank 0 on", lines[0])
