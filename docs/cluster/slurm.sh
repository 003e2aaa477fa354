#!/usr/bin/env bash
# Trains on several SLURM nodes and goes on by itself after each time limit. docs/cluster/README.md explains it.
#
#   OUT=/shared/runs/x D3GAN_DATA=/shared/data sbatch docs/cluster/slurm.sh --preset cifar10-512
#
# What stands on sbatch's command line beats these lines: sbatch --nodes=4 --time=08:00:00 docs/cluster/slurm.sh ...
#SBATCH --job-name=d3gan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=d3gan-%j.log
#SBATCH --signal=B:TERM@120

set -euo pipefail

# Change these here, or set them where you call sbatch.
VENV=${VENV:-$PWD/.venv}                  # where d3gan is installed; every node must see it
OUT=${OUT:-$PWD/runs/slurm-$SLURM_JOB_ID} # the run directory, on storage that all nodes share
MAX_RESTARTS=${MAX_RESTARTS:-3}           # after a crash, within one job
export D3GAN_DATA=${D3GAN_DATA:-$PWD/data}
# Two minutes lie between the signal and the time limit. The workers may use 90 seconds of them to save.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-90}
# Which network, where the default is wrong:
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

if [[ ! -x $VENV/bin/d3gan ]]; then
    echo "$VENV/bin/d3gan: not there; set VENV to the environment that d3gan is installed in" >&2
    exit 1
fi

threads=$((${SLURM_CPUS_PER_TASK:-1} / ${SLURM_GPUS_ON_NODE:-1}))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first_host=${hosts%%$'\n'*}
# Below 32768, where Linux begins to hand out ports of its own; another job on the host gets another port.
port=$((10000 + SLURM_JOB_ID % 20000))
# A requeued job keeps its id. The restart count keeps it away from what its predecessor left.
meeting=$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}

# False once SLURM is ending the job by itself: cancelled, or pre-empted. True where SLURM does not answer.
job_is_running() {
    local job
    job=$(scontrol show job --oneliner "$SLURM_JOB_ID") || return 0
    [[ $job == *JobState=RUNNING* ]]
}

# The signal goes through scancel, which reaches the tasks of the step and not this shell. It must not go to srun:
# srun answers SIGTERM by SIGKILL to all tasks. It goes once, since a second one would interrupt the saving.
signals=0
# shellcheck disable=SC2329  # the trap calls it
stop_step() {
    signals=$((signals + 1))
    if ((signals == 1)) && job_is_running; then
        echo "slurm.sh: asking the workers to save and stop"
        scancel --signal=TERM "$SLURM_JOB_ID" || echo "slurm.sh: scancel failed; the last checkpoint stays" >&2
    fi
}
trap stop_step TERM

# One launcher a node; it starts one worker for each GPU it sees. In the background, so that the trap runs at once.
srun --kill-on-bad-exit=1 --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    "$VENV/bin/d3gan" train --workers-per-node auto \
    --nnodes "$SLURM_JOB_NUM_NODES" --rdzv-endpoint "$first_host:$port" --rdzv-id "$meeting" \
    --max-restarts "$MAX_RESTARTS" --out "$OUT" "$@" &
step=$!

# A trapped signal ends `wait` early with a code that is not the step's: wait until none came in between.
code=0
while true; do
    before=$signals
    code=0
    wait "$step" || code=$?
    if ((signals == before)); then break; fi
done

# 143: stopped by SIGTERM and saved. 0 is finished, 130 stopped by hand, 1 and 2 would only fail again.
if ((code == 143)) && job_is_running; then
    echo "slurm.sh: stopped and saved; back into the queue, to go on in $OUT"
    scontrol requeue "$SLURM_JOB_ID" || echo "slurm.sh: requeue refused; submit the same command again to go on" >&2
fi
exit "$code"
