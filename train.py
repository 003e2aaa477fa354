"""The original program's single-device command: ``python train.py`` reads config.ini; every key is also a flag."""

from d3gan.__main__ import run

if __name__ == "__main__":
    run("python train.py", ["train"])
