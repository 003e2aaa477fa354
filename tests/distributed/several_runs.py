"""Trains several runs, one after the other, in the same processes: each argument is a run's config as JSON."""

import json
import sys

from d3gan import TrainConfig, train

if __name__ == "__main__":
    for settings in sys.argv[1:]:
        train(TrainConfig(**json.loads(settings)))
