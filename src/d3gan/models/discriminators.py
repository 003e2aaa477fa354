"""K discriminators as one module: what each sees, their logits, and the logits of one that only the device knows."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from d3gan.models.views import Dropout

Penalize = Callable[[list[nn.Module], tuple[Tensor, Tensor]], Tensor]
"""Discriminators, and their real and fake logits (K, N) each -> penalties (K,)."""


class Discriminators(nn.Module):
    """K discriminators, called together.

    Args:
        members: each maps images to logits (N,).
        sliced: each sees a slice of its own of every batch, the k-th of K equal ones, and no other image.
    """

    def __init__(self, members: Iterable[nn.Module], sliced: bool = False):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.sliced = sliced

    def __len__(self) -> int:
        return len(self.members)

    @functools.cached_property
    def alike(self) -> bool:
        """Whether the members differ in the numbers of their state alone."""
        shapes = [[(name, value.shape) for name, value in member.state_dict().items()] for member in self.members]
        drops = any(isinstance(module, Dropout) for module in self.modules())
        return all(each == shapes[0] for each in shapes) and not drops

    def seen(self, batch: Tensor) -> Sequence[Tensor]:
        """What each discriminator sees of a batch (N, ...): all of it, or N / K."""
        return batch.chunk(len(self)) if self.sliced else (batch,) * len(self)

    def others(self, batch: Tensor) -> Sequence[Tensor]:
        """What the others see of a batch, (N - N / K, ...) for each discriminator; of ``sliced`` ones."""
        slices = batch.chunk(len(self))
        return [torch.cat([*slices[:k], *slices[k + 1 :]]) for k in range(len(self))]

    def inputs(self, images: Tensor, labels: Tensor | None, *, others: bool = False) -> list[tuple[Tensor, ...]]:
        """What each discriminator is called with: the images that it sees, with classes also their labels.

        Args:
            images: (N, ...).
            labels: (N,) int64, or None without classes.
            others: what the others see instead.
        """
        parts = [batch for batch in (images, labels) if batch is not None]
        return list(zip(*((self.others if others else self.seen)(batch) for batch in parts), strict=True))

    def forward(
        self,
        real_images: Tensor,
        fake_images: Tensor,
        penalize: Penalize | None = None,
        real_labels: Tensor | None = None,
        fake_labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits of every discriminator for the real and for the fake images that it sees, and its penalties.

        The two batches go through BatchNorm separately, each normalised by its own statistics, as in DCGAN.

        Args:
            real_images: (N, nc, S, S) in [-1, 1].
            fake_images: (N, nc, S, S) in [-1, 1].
            penalize: given the discriminators and their logits, computes their penalties (K,). It is called here
                because DistributedDataParallel wants one forward per backward.
            real_labels: (N,) int64, of networks with classes.
            fake_labels: (N,) int64, of networks with classes.

        Returns:
            Real and fake logits, (K, N) each, or (K, N / K) of slices, and what ``penalize`` returned.
        """
        real_logits, fake_logits = (
            torch.stack([member(*seen) for member, seen in zip(self.members, self.inputs(*batch), strict=True)])
            for batch in ((real_images, real_labels), (fake_images, fake_labels))
        )
        penalties = penalize(list(self.members), (real_logits, fake_logits)) if penalize is not None else None
        return real_logits, fake_logits, penalties

    def frozen_logits(
        self,
        images: Tensor,
        selected: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        others: bool = False,
    ) -> Tensor:
        """Logits of one discriminator or of all, whose parameters take no gradient; the images do.

        Args:
            images: (N, nc, S, S) in [-1, 1], of which each judges what it sees.
            selected: () int64, on the images' device: which discriminator; None: all. On an accelerator the host
                never reads it, because that would wait for all the work before it.
            labels: (N,) int64 of the images, of networks with classes.
            others: each judges what the others see instead.

        Returns:
            (N,) of one, (K, N) of all; where they judge fewer images, fewer.
        """
        seen = self.inputs(images, labels, others=others)
        if selected is None:
            return torch.stack([self.member_logits(k, *each) for k, each in enumerate(seen)])
        if selected.device.type == "cpu":
            k = int(selected)
            return self.member_logits(k, *seen[k])
        return self.gathered_logits(seen, selected)

    def member_logits(self, k: int, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) of discriminator k for all of these images; its parameters take no gradient, the images do."""
        given = (images,) if labels is None else (images, labels)
        return cast(Tensor, functional_call(self.members[k], _frozen(self.members[k]), given))

    def gathered_logits(self, seen: Sequence[tuple[Tensor, ...]], selected: Tensor) -> Tensor:
        """Logits (N,) of the discriminator that the device knows, and the host does not.

        Where the members have other sizes or drop at other rates, all K are computed: no one of them can stand for
        another.

        Args:
            seen: what each discriminator would be called with, as ``inputs`` returns it.
            selected: () int64: which discriminator.
        """
        if not self.alike:
            logits = torch.stack([self.member_logits(k, *each) for k, each in enumerate(seen)])
            return logits.index_select(0, selected[None])[0]
        given = seen[0]
        if self.sliced:
            given = tuple(torch.stack(parts).index_select(0, selected[None])[0] for parts in zip(*seen, strict=True))
        return cast(Tensor, functional_call(self.members[0], self.selected_state(selected), given))

    def selected_state(self, selected: Tensor) -> dict[str, Tensor]:
        """Copies of one of ``alike`` discriminators' parameters and buffers by name, detached, chosen on the device.

        Args:
            selected: () int64: which discriminator.
        """
        states = [_frozen(member) for member in self.members]
        stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        return {name: values.index_select(0, selected[None])[0] for name, values in stacked.items()}


def _frozen(network: nn.Module) -> dict[str, Tensor]:
    """A network's parameters and buffers, detached: the same memory."""
    return {name: tensor.detach() for name, tensor in network.state_dict(keep_vars=True).items()}
