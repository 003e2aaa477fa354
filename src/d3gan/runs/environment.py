"""environment.json: the versions, machine and command of each session of a run."""

import json
import platform
import sys
from datetime import UTC, datetime
from typing import Any

from d3gan.files import read_file, write_text
from d3gan.runs.directory import RunDirectory
from d3gan.version import __version__


def write_environment(run: RunDirectory, facts: dict[str, Any]) -> dict[str, Any]:
    """Adds this session to environment.json: versions, machine, command, and the caller's facts; returns it."""
    import psutil
    import torch

    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "d3gan": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": torch.get_num_threads(),
        **facts,
    }
    sessions = read_environment(run)
    write_text(run.environment, json.dumps({"sessions": [*sessions, session]}, indent=1) + "\n")
    return session


def read_environment(run: RunDirectory) -> list[dict[str, Any]]:
    """The sessions that worked on a run, oldest first; empty if environment.json is missing or damaged."""
    try:
        sessions = json.loads(read_file(run.environment))["sessions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []
