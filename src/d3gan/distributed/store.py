"""The store through which the processes of a run find each other."""

import os
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from d3gan.errors import ConfigError


def open_store(name: str, timeout: float, serve: bool = False) -> Store:
    """The store at MASTER_ADDR and MASTER_PORT through which processes find one another.

    torchrun's launcher may serve one store for all attempts (it does since PyTorch 2.5). A restarted process would
    then find the addresses of dead ones, so on one host the keys begin with the number of the attempt. Several hosts
    count attempts differently; there our launcher has rank 0 of each attempt serve a new store.

    Args:
        name: what its keys begin with.
        timeout: seconds that any request may take, the first connection included.
        serve: serve the store, unless the launcher does.

    Raises:
        ConfigError: a torchrun on several hosts may restart its processes and serves one store for all attempts.
    """
    launchers = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    if launchers and not alone and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise ConfigError(
            "torchrun --max-restarts on several hosts: needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment "
            "of each torchrun; d3gan train --workers-per-node sets it automatically"
        )
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=serve and not launchers,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        multi_tenant=True,
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if launchers and alone else "0"
    return PrefixStore(f"d3gan/{attempt}/{name}", store)
