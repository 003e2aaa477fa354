"""``python -m d3gan``."""

from d3gan.cli import run

if __name__ == "__main__":
    run()
