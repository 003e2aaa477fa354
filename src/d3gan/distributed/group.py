"""The processes of a run as one of them sees them: its rank, what they exchange, and when they stop."""

import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from d3gan.distributed.watchdog import Watch
from d3gan.errors import ConfigError, ExternalError

Anything = TypeVar("Anything")

# A GPU is given work ahead of time; whether to stop is read this many steps late, when the answer is there already.
STEPS_AHEAD = 4


class Group:
    """The processes of a run as one of them sees them. A single process is a group of one.

    Args:
        rank: this process's number among all of them, from 0.
        world_size: number of processes.
        processes: torch.distributed's group; None: all there are.
        watch: the watchdog that notices processes that hang.
    """

    def __init__(
        self,
        rank: int = 0,
        world_size: int = 1,
        processes: "torch.distributed.ProcessGroup | None" = None,
        watch: Watch | None = None,
    ):
        self.rank, self.world_size, self.processes, self._watch = rank, world_size, processes, watch
        self.wants_stop = False
        """Set when this process wants all of them to stop; ``mean`` tells the others."""
        self._location = "at the start"
        self._answers: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files: rank 0 does."""
        return self.rank == 0

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Means over the processes, in one all-reduce; all processes must call it, with the same shapes.

        Every process gets the same bits. The all-reduce also carries whether any of them wants to stop (``to_stop``).

        Args:
            tensors: floating, on one device.
        """
        if self.world_size == 1:
            return list(tensors)
        wish = torch.full((1,), float(self.wants_stop), dtype=tensors[0].dtype, device=tensors[0].device)
        flat = torch.cat([*(tensor.detach().flatten() for tensor in tensors), wish])
        torch.distributed.all_reduce(flat, group=self.processes)
        flat = flat / self.world_size
        self._keep_answer(flat[-1:])
        parts = flat[:-1].split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def _keep_answer(self, answer: Tensor) -> None:
        if answer.device.type != "cuda":
            self._answers.append((answer, None))
            return
        host = torch.empty(1, dtype=answer.dtype, pin_memory=True).copy_(answer, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._answers.append((host, event))

    def to_stop(self) -> bool:
        """Whether all processes stop now: the same answer in each, from their latest means.

        On a GPU the answer is some steps old, so that the host need not wait for the device.
        """
        if self.world_size == 1:
            return self.wants_stop
        late = STEPS_AHEAD if self._answers and self._answers[0][1] is not None else 0
        stop = False
        while len(self._answers) > late:
            answer, event = self._answers.popleft()
            if event is not None:
                event.synchronize()
            stop = stop or bool(answer.item() > 0)
        return stop

    def any_rank(self, mine: bool) -> bool:
        """Whether ``mine`` is true in any process; all of them must call it."""
        return any(self.all_gather(mine))

    def all_gather(self, mine: Anything) -> list[Anything]:
        """Every process's object, in order of rank; all processes must call it."""
        if self.world_size == 1:
            return [mine]
        objects: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(objects, mine, group=self.processes)
        return objects

    def broadcast(self, mine: Anything) -> Anything:
        """Rank 0's object, to every process; all of them must call it."""
        if self.world_size == 1:
            return mine
        objects = [mine]
        torch.distributed.broadcast_object_list(objects, group_src=0, group=self.processes)
        return objects[0]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Brings every process's tensor to rank 0; all processes must call it, with one shape and type.

        Returns:
            The tensors in order of rank, on rank 0; an empty list elsewhere.
        """
        if self.world_size == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)] if self.is_main else None
        torch.distributed.gather(tensor.contiguous(), gathered, group_dst=0, group=self.processes)
        return gathered or []

    def gather_objects(self, mine: Anything) -> list[Anything]:
        """Brings every process's object to rank 0; all processes must call it.

        Returns:
            The objects in order of rank, on rank 0; an empty list elsewhere.
        """
        if self.world_size == 1:
            return [mine]
        gathered: list[Any] | None = [None] * self.world_size if self.is_main else None
        torch.distributed.gather_object(mine, gathered, group_dst=0, group=self.processes)
        return gathered or []

    def exchange(self, messages: Sequence[tuple[int, Tensor]]) -> list[Tensor]:
        """Sends tensors to other processes, and gets one of the same shape and type for each.

        Two processes that exchange several tensors must name them in the same order.

        Args:
            messages: rank of the other process, and the tensor for it.

        Returns:
            What the other process sent, one for each message; a single process gets its own back.
        """
        if self.world_size == 1:
            return [tensor for _, tensor in messages]
        received = [torch.empty_like(tensor) for _, tensor in messages]
        operations = []
        for (rank, tensor), buffer in zip(messages, received, strict=True):
            for what, content in ((torch.distributed.isend, tensor), (torch.distributed.irecv, buffer)):
                operations.append(torch.distributed.P2POp(what, content, group=self.processes, group_peer=rank))
        if operations:
            for request in torch.distributed.batch_isend_irecv(operations):
                request.wait()
        return received

    @contextmanager
    def raise_on_all_ranks(self) -> Iterator[None]:
        """Makes an error of one process an error of all: none is left waiting for one that has given up.

        The block must not exchange anything with the other processes; all of them must enter it.

        Raises:
            ConfigError: in every process, where any raised it; the lowest rank's, named if it was not everyone's.
            ExternalError: the same.
        """
        error_here: ConfigError | ExternalError | None = None
        try:
            yield
        except (ConfigError, ExternalError) as error:
            error_here = error
        summary = (type(error_here), str(error_here)) if error_here is not None else None
        if error_here is not None and self.world_size == 1:
            raise error_here
        summaries = self.all_gather((summary, hostname()))
        first = next((rank for rank, (error, _) in enumerate(summaries) if error is not None), None)
        if first is None:
            return
        (kind, text), host = summaries[first][0] or (ConfigError, ""), summaries[first][1]
        same = all(error == (kind, text) for error, _ in summaries)
        # One text in all processes, so that a collected log shows one mistake.
        raise kind(text if same else f"rank {first} on {host}: {text}") from error_here

    def require_equal(self, facts: Mapping[str, object]) -> None:
        """Checks that all processes have the same values; all of them must call it.

        Raises:
            ConfigError: in every process; names the first value that differs, its rank and host.
        """
        gathered = self.all_gather((dict(facts), hostname()))
        main, main_host = gathered[0]
        for rank, (theirs, host) in enumerate(gathered):
            for name, value in theirs.items():
                if value != main.get(name):
                    raise ConfigError(
                        f"{name} = {value} in rank {rank} on {host}, {main.get(name)} in rank 0 on {main_host}: "
                        "start all processes with the same config and the same data"
                    )

    def subgroup(self, workers: int) -> "Group | None":
        """The first ``workers`` processes as a group of their own; all processes must call it.

        Returns:
            The group; None in a process that is not in it.
        """
        if self.world_size == workers:
            return self
        if self.world_size == 1 or workers > self.world_size:
            raise ValueError(f"{workers} of {self.world_size} processes")
        processes = torch.distributed.new_group(list(range(workers)))
        return Group(self.rank, workers, processes) if self.rank < workers else None

    def heartbeat(self, location: str) -> None:
        """Notes that this process makes progress, and where it is; see ``d3gan.distributed.watchdog``."""
        self._location = location
        if self._watch is not None:
            self._watch.heartbeat(location)

    def on_orphan(self, call: Callable[[], None]) -> None:
        """Has another thread call ``call`` if this process's launcher dies."""
        if self._watch is not None:
            self._watch.on_orphan = call

    def where(self) -> str:
        """The location that ``heartbeat`` was last given."""
        return self._location


def hostname() -> str:
    """This host's name, for messages."""
    return socket.gethostname()
