"""The files under docs/cluster, run against stand-ins for SLURM's commands: no cluster is needed, none is proven."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CLUSTER = Path(__file__).parents[1] / "docs" / "cluster"
SCRIPT = CLUSTER / "slurm.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")

# As in SLURM, the step is not srun: scancel reaches the step, and an srun that gets SIGTERM kills the step.
STUBS = {
    "srun": """
        printf '%s\\n' "$@" > "$STATE/arguments"
        env > "$STATE/environment"
        ("$STATE/step") & step=$!
        trap 'kill -KILL $step; exit 137' TERM
        echo $step > "$STATE/pid.new" && mv "$STATE/pid.new" "$STATE/pid"
        wait $step
    """,
    "step": """
        if [ -n "${STEP_EXITS:-}" ]; then exit "$STEP_EXITS"; fi
        trap 'sleep 0.3; touch "$STATE/saved"; exit ${STEP_STOPS_WITH:-143}' TERM
        for i in $(seq 400); do sleep 0.05; done
    """,
    "scontrol": """
        echo "scontrol $*" >> "$STATE/calls"
        case "$1 $2" in
            "show hostnames") printf 'node7\\nnode8\\n' ;;
            "show job") echo "JobId=12345 JobName=d3gan JobState=${JOB_STATE:-RUNNING} Reason=None" ;;
            requeue*)
                test -e "$STATE/saved" || echo "requeued before saving" >> "$STATE/calls"
                exit "${REQUEUE_EXITS:-0}" ;;
        esac
    """,
    "scancel": """
        echo "scancel $*" >> "$STATE/calls"
        kill -TERM "$(cat "$STATE/pid")"
    """,
    "d3gan": "exit 99",
}


class Cluster:
    """A folder of stand-ins, and the batch script started in front of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        commands = folder / "bin"
        commands.mkdir()
        for name, body in STUBS.items():
            path = (folder if name == "step" else commands) / name
            path.write_text(f"#!/usr/bin/env bash\n{body}\n")
            path.chmod(0o755)

    def start(self, *flags: str, **environment: str) -> subprocess.Popen[str]:
        variables = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "STATE": str(self.folder),
            "VENV": str(self.folder),
            "OUT": "/shared/runs/x",
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NODELIST": "node[7-8]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "32",
            "SLURM_GPUS_ON_NODE": "4",
        }
        process = subprocess.Popen(
            ["bash", str(SCRIPT), *flags],
            env=variables | environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        output, _ = process.communicate(timeout=30)
        return process.returncode, output

    def wait_for_step(self) -> int:
        """The step's process id, once the step has set its trap."""
        deadline = time.monotonic() + 20
        while not (self.folder / "pid").exists():
            assert time.monotonic() < deadline, "srun was not called"
            time.sleep(0.02)
        time.sleep(0.3)
        return int((self.folder / "pid").read_text())

    def calls(self, start: str) -> list[str]:
        return [line for line in (self.folder / "calls").read_text().splitlines() if line.startswith(start)]

    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().splitlines()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    for process in cluster.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_every_option_for_sbatch_stands_before_the_first_command() -> None:
    lines = SCRIPT.read_text().splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = {line.split(maxsplit=1)[1] for line in lines[:first_command] if line.startswith("#SBATCH")}
    assert options >= {
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=4",
        "--requeue",
        "--open-mode=append",
        "--signal=B:TERM@120",
    }
    assert not any(line.startswith("#SBATCH") for line in lines[first_command:])


def test_the_time_limit_saves_and_requeues(cluster: Cluster) -> None:
    process = cluster.start()
    cluster.wait_for_step()
    process.send_signal(signal.SIGTERM)
    code, output = cluster.finish(process)
    assert code == 143, output
    assert (cluster.folder / "saved").exists(), "the step was killed before it had saved"
    assert cluster.calls("scancel") == ["scancel --signal=TERM 12345"]
    assert cluster.calls("scontrol requeue") == ["scontrol requeue 12345"]
    assert cluster.calls("requeued before") == []


@pytest.mark.parametrize("code", [0, 1])
def test_the_code_is_the_steps_and_not_that_of_the_signal(cluster: Cluster, code: int) -> None:
    process = cluster.start(STEP_STOPS_WITH=str(code))
    cluster.wait_for_step()
    process.send_signal(signal.SIGTERM)
    assert cluster.finish(process)[0] == code
    assert cluster.calls("scontrol requeue") == []


def test_a_second_signal_to_the_shell_is_not_passed_on(cluster: Cluster) -> None:
    process = cluster.start()
    cluster.wait_for_step()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.15)
    process.send_signal(signal.SIGTERM)
    code, output = cluster.finish(process)
    assert code == 143, output
    assert (cluster.folder / "saved").exists()
    assert len(cluster.calls("scancel")) == 1
    assert len(cluster.calls("scontrol requeue")) == 1


def test_a_step_that_slurm_itself_asked_to_stop_is_requeued(cluster: Cluster) -> None:
    process = cluster.start()
    os.kill(cluster.wait_for_step(), signal.SIGTERM)
    assert cluster.finish(process)[0] == 143
    assert cluster.calls("scancel") == []
    assert cluster.calls("scontrol requeue") == ["scontrol requeue 12345"]


@pytest.mark.parametrize("code", [0, 1, 2, 130, 137])
def test_what_finished_or_failed_is_not_requeued(cluster: Cluster, code: int) -> None:
    process = cluster.start(STEP_EXITS=str(code))
    assert cluster.finish(process)[0] == code
    assert cluster.calls("scontrol requeue") == []


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PREEMPTED"])
def test_a_job_that_slurm_is_ending_gets_no_second_signal_and_no_requeue(cluster: Cluster, state: str) -> None:
    process = cluster.start(JOB_STATE=state)
    step = cluster.wait_for_step()
    process.send_signal(signal.SIGTERM)
    os.kill(step, signal.SIGTERM)
    assert cluster.finish(process)[0] == 143
    assert cluster.calls("scancel") == []
    assert cluster.calls("scontrol requeue") == []


def test_a_refused_requeue_says_what_to_do(cluster: Cluster) -> None:
    code, output = cluster.finish(cluster.start(STEP_EXITS="143", REQUEUE_EXITS="1"))
    assert code == 143
    assert "submit the same command again" in output


def test_the_launcher_gets_the_nodes_the_meeting_point_and_the_flags(cluster: Cluster) -> None:
    cluster.finish(cluster.start("--config", "my configs/a.ini", STEP_EXITS="0"))
    arguments = cluster.arguments()
    command = arguments.index(f"{cluster.folder}/bin/d3gan")
    assert "--kill-on-bad-exit=1" in arguments[:command]
    assert "--cpus-per-task=32" in arguments[:command]
    assert arguments[command + 1 :] == [
        *["train", "--workers-per-node", "auto", "--nnodes", "2", "--rdzv-endpoint", "node7:22345"],
        *["--rdzv-id", "12345-0", "--max-restarts", "3", "--out", "/shared/runs/x", "--config", "my configs/a.ini"],
    ]
    environment = (cluster.folder / "environment").read_text().splitlines()
    assert {"OMP_NUM_THREADS=8", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=90"} <= set(environment)


def test_a_requeued_job_meets_elsewhere(cluster: Cluster) -> None:
    cluster.finish(cluster.start(STEP_EXITS="0", SLURM_RESTART_COUNT="2"))
    arguments = cluster.arguments()
    assert arguments[arguments.index("--rdzv-id") + 1] == "12345-2"


def test_a_missing_environment_is_named(cluster: Cluster) -> None:
    code, output = cluster.finish(cluster.start(VENV="/nowhere"))
    assert code == 1
    assert "/nowhere/bin/d3gan: not there; set VENV" in output


def load_yaml(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load((CLUSTER / name).read_text())


def test_the_kubernetes_job_has_the_fields_that_the_operator_reads() -> None:
    job = load_yaml("kubernetes.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert sorted(replicas) == ["Master", "Worker"]
    claim = load_yaml("kubernetes-claim.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for replica in replicas.values():
        assert (replica["replicas"], replica["restartPolicy"]) == (1, "ExitCode")
        pod = replica["template"]["spec"]
        [container] = pod["containers"]
        assert container["name"] == "pytorch"
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        assert int(variables["NNODES"]) == sum(other["replicas"] for other in replicas.values())
        assert int(variables["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"] == 120
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert volumes["storage"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_container_hides_the_operators_variables_from_the_launcher(tmp_path: Path, rank: str) -> None:
    container = load_yaml("kubernetes.yaml")["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"][
        "containers"
    ][0]
    launcher = tmp_path / "d3gan"
    launcher.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\nenv\nexit 2\n')
    launcher.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as master:
        variables = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(master.getsockname()[1]),
            "NNODES": "2",
            "RANK": rank,
            "WORLD_SIZE": "2",
            "PET_NNODES": "2",
            "PET_NODE_RANK": rank,
        }
        command = [*container["command"], *container["args"]]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert lines[:7] == [
        *["train", "--workers-per-node", "auto", "--nnodes", "2", "--rdzv-endpoint"],
        f"127.0.0.1:{variables['MASTER_PORT']}",
    ]
    names = {line.partition("=")[0] for line in lines}
    assert "MASTER_ADDR" in names
    assert not names & {"RANK", "WORLD_SIZE", "PET_NNODES", "PET_NODE_RANK"}


def test_the_image_is_built_from_files_that_exist() -> None:
    copies = [
        line.split()[1:-1] for line in (CLUSTER / "Dockerfile").read_text().splitlines() if line.startswith("COPY")
    ]
    assert copies
    for name in [name for names in copies for name in names]:
        assert (CLUSTER.parents[1] / name).exists(), name
