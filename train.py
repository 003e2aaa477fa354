"""The original program's single-device command: ``python train.py`` reads config.ini; every key is also a flag."""

import sys

from d3gan.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python train.py", ["train"]))
