"""Where the processes of several hosts meet, and under which address and interface others reach this host."""

import socket
from dataclasses import dataclass

from d3gan.errors import ConfigError, ExternalError

# How long a host that can be reached may take to answer at the endpoint; PyTorch tries twice.
CONNECT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The flags that say where the processes of several hosts meet."""

    nnodes: int = 1
    """Number of hosts; start the same command on each."""
    rdzv_endpoint: str = ""
    """HOST:PORT where the hosts meet: any of them, with a free port. Needed with --nnodes above 1."""
    rdzv_id: str = "d3gan"
    """Name of the job, if several jobs use one endpoint."""


def check_hosts(hosts: Hosts) -> None:
    """Checks which flags need each other.

    Raises:
        ConfigError: a flag is missing or out of range.
    """
    if hosts.nnodes < 1:
        raise ConfigError(f"nnodes = {hosts.nnodes}: must be at least 1")
    if hosts.nnodes > 1 and not hosts.rdzv_endpoint:
        raise ConfigError("--nnodes above 1: needs --rdzv-endpoint HOST:PORT, the same on every host")
    host, _, port = hosts.rdzv_endpoint.rpartition(":")
    if hosts.rdzv_endpoint and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(f"--rdzv-endpoint {hosts.rdzv_endpoint}: must be HOST:PORT, such as node0:29400")


def refuse_unknown_host(endpoint: str) -> None:
    """Checks that the endpoint's host has an address; PyTorch would try for a minute and a half.

    Raises:
        ExternalError: it has none.
    """
    try:
        _resolved(endpoint)
    except OSError as error:
        host = endpoint.rpartition(":")[0]
        raise ExternalError(
            f"--rdzv-endpoint {endpoint}: this host cannot resolve {host} ({error.strerror})"
        ) from error


def _resolved(endpoint: str) -> tuple[socket.AddressFamily, str, int]:
    """Family, numeric address and port of HOST:PORT; lets OSError through."""
    host, _, port = endpoint.rpartition(":")
    family, *_, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    return family, str(address[0]), int(port)


def is_here(endpoint: str) -> bool:
    """Whether the endpoint's address is one of this host: only then can a socket be bound to it."""
    family, address, _ = _resolved(endpoint)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def own_address(endpoint: str) -> str:
    """The address by which this host reaches the endpoint, so that the others can reach it there; "" if unknown.

    PyTorch would use the host's name, which some systems resolve to 127.0.0.1.
    """
    family, address, port = _resolved(endpoint)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, port))  # of a datagram socket: nothing is sent
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
    return "" if address.startswith("127.") or address == "::1" else address


def interface_of(address: str) -> str:
    """Name of the network interface that has an address; "" if none has."""
    import psutil

    interfaces = psutil.net_if_addrs().items()
    return next((name for name, addresses in interfaces if any(each.address == address for each in addresses)), "")


def no_rendezvous(hosts: Hosts, error: BaseException) -> ExternalError:
    """The error for processes that did not find one another."""
    reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
    where = hosts.rdzv_endpoint or "this host"
    return ExternalError(
        f"{where}: the processes did not find one another there ({type(error).__name__}: {reason}); check the host, "
        "that its port is free and open, and that the same command was started on all hosts"
    )
