"""Rules over discriminators: how much each of the K counts in the generator's loss, sum over k of weights[k] l_k.

l_k is the generator's loss against discriminator k, after that one's update, a mean over all processes. A new rule is
a class here and a line in ``WEIGHTINGS``, with its name in ``d3gan.config.recipes``. With K = 1 every rule gives the
weight 1. docs/algorithm.md compares them.
"""

from typing import ClassVar, Literal, cast

import numpy as np
import scipy.optimize
import torch
from torch import Tensor, nn
from torch.nn import functional


class Weighting(nn.Module):
    """A rule over K discriminators; one with a memory keeps it in buffers or parameters, which checkpoints hold."""

    reads: ClassVar[Literal["nothing", "losses", "gradients"]] = "nothing"
    """What ``forward`` is given of the generator phase."""
    draws: ClassVar[bool] = False
    """Whether the rule needs random numbers."""
    learns: ClassVar[bool] = False
    """Whether ``learn`` wants to know what the generator's update changed."""

    def __init__(self, discriminators: int):
        super().__init__()
        self.K = discriminators

    def select(self, losses: Tensor, uniforms: Tensor | None) -> Tensor | None:
        """The one discriminator that a one-hot rule calls in the generator phase; None if the rule calls all.

        Args:
            losses: (K,) paired losses of the discriminators before their update, means over all processes.
            uniforms: (K + 1,) random numbers in [0, 1), equal in all processes, if the rule ``draws``.

        Returns:
            () int64 on the losses' device, or None.
        """
        return None

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """The weights of a rule that calls all discriminators.

        Args:
            evidence: what the rule ``reads``: the generator's losses l_k (K,), or the gradients of the l_k with
                respect to the generator's parameters, (K, parameters); means over all processes.
            uniforms: as in ``select``.

        Returns:
            The weights (K,), and the derivative (K,) of the generator's loss with respect to each l_k: the weights
            again, unless the gradient flows through them.
        """
        raise NotImplementedError

    def learn(self, rewards: Tensor) -> None:
        """Takes in by how much the generator's update raised each discriminator's mean sigmoid(D_k(x̂)), (K,)."""


class Argmax(Weighting):
    """D3GAN: the discriminator with the largest paired loss, the lowest index of equal ones."""

    def select(self, losses: Tensor, uniforms: Tensor | None) -> Tensor:
        """() int64."""
        return losses.argmax(dim=0)


class Argmin(Weighting):
    """GMAN-max (arXiv:1611.01673, section 3.1): the smallest paired loss, which is the strongest discriminator's.

    GMAN maximizes V_k = -(loss of k); with pairing = own that is the smallest loss. The lowest index of equal ones.
    """

    def select(self, losses: Tensor, uniforms: Tensor | None) -> Tensor:
        """() int64."""
        return losses.argmin(dim=0)


class Random(Weighting):
    """One discriminator a step, each with probability 1/K."""

    draws = True

    def select(self, losses: Tensor, uniforms: Tensor | None) -> Tensor:
        """() int64."""
        return _uniform_index(_drawn(uniforms)[0], self.K)


class Mean(Weighting):
    """1/K each: what a GAN with several discriminators does without choosing (GMAN with lambda = 0)."""

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """1/K each."""
        weights = torch.full_like(evidence, 1 / self.K)
        return weights, weights


class Sum(Weighting):
    """1 each, as D2GAN's objective and Dropout-GAN's without dropout."""

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """1 each."""
        weights = torch.ones_like(evidence)
        return weights, weights


class Softmax(Weighting):
    """GMAN (arXiv:1611.01673, section 4.1): w = softmax(λ l), with the gradient flowing through w as published.

    λ = 0 is the mean, a large λ takes the largest l_k, the discriminator that rejects the fake images most. With a
    learned λ = softplus(v) (GMAN*, section 4.2) the generator minimizes sum_k w_k l_k - challenge λ; v starts at -2,
    as in the authors' program, which has no last term (challenge 0).

    Args:
        discriminators: K.
        sharpness: λ >= 0; None: learned.
        gradient: whether the generator's loss is also differentiated with respect to the weights.
        challenge: the factor of λ in the generator's objective, >= 0; used only where λ is learned.
    """

    reads = "losses"

    def __init__(self, discriminators: int, sharpness: float | None, gradient: bool, challenge: float):
        super().__init__(discriminators)
        self._fixed, self._gradient, self._challenge = sharpness, gradient, challenge
        if sharpness is None:
            self.v = nn.Parameter(torch.tensor(-2.0))

    @property
    def sharpness(self) -> float | Tensor:
        """λ."""
        return functional.softplus(self.v) if self._fixed is None else self._fixed

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights and derivatives from the losses (K,); a learned λ is given its gradient."""
        with torch.enable_grad():
            losses = evidence.detach().requires_grad_()
            sharpness = self.sharpness
            weights = torch.softmax(sharpness * losses, dim=0)
            objective = (weights * losses).sum() - self._challenge * sharpness
            if self._fixed is None:
                derivatives, self.v.grad = torch.autograd.grad(objective, [losses, self.v])
            else:
                (derivatives,) = torch.autograd.grad(objective, [losses])
        weights = weights.detach()
        return weights, derivatives if self._gradient else weights


class Hypervolume(Weighting):
    """hGAN (Albuquerque et al., arXiv:1901.08680): w_k ∝ 1 / (η - l_k), η = slack max_k l_k + 1e-8, sum 1.

    The gradient of -sum_k log(η - l_k) with η held fixed, divided by the sum of its coefficients as in the authors'
    program. A slack near 1 leaves the worst loss alone, a large one is the mean. Needs positive losses.

    Args:
        discriminators: K.
        slack: δ > 1; the program's default is 1.5.
    """

    reads = "losses"

    def __init__(self, discriminators: int, slack: float):
        super().__init__(discriminators)
        self._slack = slack

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights from the losses (K,) > 0."""
        nadir = self._slack * evidence.max() + 1e-8
        weights = 1 / (nadir - evidence)
        weights = weights / weights.sum()
        return weights, weights


class Dropout(Weighting):
    """Dropout-GAN (Mordido et al., arXiv:1807.11346): weight 0 with probability ``rate``, else 1, anew each step.

    If all would be 0, one discriminator drawn with equal probabilities gets 1.
    """

    draws = True

    def __init__(self, discriminators: int, rate: float):
        super().__init__(discriminators)
        self._rate = rate

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """0 or 1 each."""
        drawn = _drawn(uniforms)
        kept = drawn[: self.K] >= self._rate
        one = functional.one_hot(_uniform_index(drawn[self.K], self.K), self.K).bool()
        weights = torch.where(kept.any(), kept, one).to(evidence.dtype)
        return weights, weights


class Bandit(Weighting):
    """acGAN (Doan et al., arXiv:1808.00020): w = softmax(κ Q), Q an average of the generator's progress.

    After each step Q_k <- α R_k + (1 - α) Q_k, where R_k is by how much the generator's update raised discriminator
    k's mean sigmoid(D_k(x̂)) on the same latents. Q starts at 0.

    Args:
        discriminators: K.
        alpha: α in (0, 1].
        kappa: κ >= 0.
    """

    learns = True
    Q: Tensor

    def __init__(self, discriminators: int, alpha: float, kappa: float):
        super().__init__(discriminators)
        self._alpha, self._kappa = alpha, kappa
        self.register_buffer("Q", torch.zeros(discriminators))

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights from Q, before this step's reward."""
        weights = torch.softmax(self._kappa * self.Q, dim=0)
        return weights, weights

    def learn(self, rewards: Tensor) -> None:
        """Moves Q towards the rewards (K,)."""
        self.Q.copy_(self._alpha * rewards + (1 - self._alpha) * self.Q)


class MultipleGradientDescent(Weighting):
    """Multiple gradient descent (Désidéri, 2012; in arXiv:1901.08680, section 3.1): argmin ‖sum_k w_k g_k‖².

    g_k is the gradient of l_k with respect to the generator's parameters, divided by its norm; w is on the simplex.
    It takes a backward pass through the generator for each discriminator, and is the one rule that waits for the
    host, which solves the problem of size K exactly.
    """

    reads = "gradients"

    def forward(self, evidence: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights from the gradients (K, parameters)."""
        directions = functional.normalize(evidence, dim=1, eps=torch.finfo(evidence.dtype).tiny)
        gram = (directions @ directions.T).double().cpu().numpy()
        weights = torch.from_numpy(nearest_to_origin(gram)).to(evidence)
        return weights, weights


def nearest_to_origin(gram: np.ndarray) -> np.ndarray:
    """Weights on the simplex of the shortest vector sum_k w_k g_k.

    With a factor A of the Gram matrix, A^T A = gram, it is a non-negative least-squares problem: y >= 0 minimizes
    ‖A y‖² + (sum y - 1)² where y is a multiple of w, since for any sum of y the first term is least there.

    Args:
        gram: (K, K) float64, the products g_j · g_k.

    Returns:
        (K,) >= 0 with sum 1.
    """
    values, vectors = np.linalg.eigh(gram)
    factor = np.sqrt(values.clip(min=0))[:, None] * vectors.T
    y, _ = scipy.optimize.nnls(np.vstack([factor, np.ones(len(gram))]), np.append(np.zeros(len(gram)), 1.0))
    return cast(np.ndarray, y / y.sum())


def _drawn(uniforms: Tensor | None) -> Tensor:
    assert uniforms is not None, "the rule draws random numbers"
    return uniforms


def _uniform_index(uniform: Tensor, K: int) -> Tensor:
    """0 to K - 1, () int64, from a number in [0, 1)."""
    return (uniform * K).long().clamp(max=K - 1)


WEIGHTINGS: dict[str, type[Weighting]] = {
    "argmax": Argmax,
    "argmin": Argmin,
    "mean": Mean,
    "sum": Sum,
    "random": Random,
    "softmax": Softmax,
    "hypervolume": Hypervolume,
    "dropout": Dropout,
    "bandit": Bandit,
    "mgd": MultipleGradientDescent,
}
