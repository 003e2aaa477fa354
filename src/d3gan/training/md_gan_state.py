"""The state of an MD-GAN's discriminators in a checkpoint, which does not depend on the number of processes."""

from typing import Any

from torch import Tensor

from d3gan.training.step import GAN


def gather_states(gan: GAN) -> dict[str, Any]:
    """The states of all K discriminators and of their optimizer, as a checkpoint holds them.

    All processes must call it; rank 0 gets all, the others their own part.
    """
    mine = {
        "discriminators": gan.discriminators.state_dict(),
        "discriminator_optimizer": gan.discriminator_optimizer.state_dict(),
    }
    gathered = gan.group.gather_objects(_on_host(mine) if gan.group.world_size > 1 else mine)
    if not gathered:
        return mine
    size, count = len(gan.discriminators), _parameters_of_one(gan)
    optimizer = gathered[0]["discriminator_optimizer"]
    K = gan.weighting.K
    return {
        "discriminators": {
            _renumbered(name, rank * size): tensor
            for rank, each in enumerate(gathered)
            for name, tensor in each["discriminators"].items()
        },
        "discriminator_optimizer": {
            "state": {
                rank * size * count + index: state
                for rank, each in enumerate(gathered)
                for index, state in each["discriminator_optimizer"]["state"].items()
            },
            "param_groups": [group | {"params": list(range(K * count))} for group in optimizer["param_groups"]],
        },
    }


def own_states(gan: GAN, state: dict[str, Any]) -> dict[str, Any]:
    """This process's part of the states of all K discriminators and their optimizer, of a checkpoint."""
    assert gan.workers is not None, "an MD-GAN"
    count, first = _parameters_of_one(gan), gan.workers.start
    optimizer = state["discriminator_optimizer"]
    own = range(first * count, gan.workers.stop * count)
    return {
        "discriminators": {
            _renumbered(name, -first): tensor
            for name, tensor in state["discriminators"].items()
            if _number_of(name) in gan.workers
        },
        "discriminator_optimizer": {
            "state": {index - own.start: each for index, each in optimizer["state"].items() if index in own},
            "param_groups": [group | {"params": list(range(len(own)))} for group in optimizer["param_groups"]],
        },
    }


def _parameters_of_one(gan: GAN) -> int:
    return len(list(gan.discriminators.members[0].parameters()))


def _number_of(name: str) -> int:
    return int(name.split(".")[1])


def _renumbered(name: str, shift: int) -> str:
    """``members.0.layers.1.weight`` as ``members.3.layers.1.weight``."""
    head, number, rest = name.split(".", 2)
    return f"{head}.{int(number) + shift}.{rest}"


def _on_host(state: Any) -> Any:
    """A state_dict with its tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {name: _on_host(value) for name, value in state.items()}
    return state
