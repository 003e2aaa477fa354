"""The seed's multi-device command. This version trains in one process, and says so."""

import sys

from d3gan.cli import main

if __name__ == "__main__":
    print("note: this version of d3gan trains in one process on one device", flush=True)
    sys.exit(main(["train", *sys.argv[1:]], "python train_ddp.py"))
