"""The original program's multi-GPU command: ``python train_ddp.py`` trains on all visible GPUs, one process each.

It is ``python train.py --workers-per-node auto``; ``torchrun train_ddp.py`` works too.
"""

from d3gan.__main__ import run

if __name__ == "__main__":
    run("python train_ddp.py", ["train", "--workers-per-node", "auto"])
