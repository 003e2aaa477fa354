"""The original program's multi-GPU command: ``python train_ddp.py`` trains on all visible GPUs, one process each.

It is ``python train.py --workers-per-node auto``; ``torchrun train_ddp.py`` works too.
"""

import sys

from d3gan.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python train_ddp.py", ["train", "--workers-per-node", "auto"]))
