"""The exact flow of a mixture of Gaussian chunks: what a perfectly trained flow or diffusion head would compute.

t = 0 is noise, t = 1 is data, x_t = (1 - t) eps + t a as in `kinema.heads.flow`. With a ~ sum_k w_k N(mu_k, s^2 I),
x_t ~ sum_k w_k N(t mu_k, v_t I) with v_t = (1 - t)^2 + t^2 s^2; conditioned on the mode all is Gaussian, so velocity
and score are sums weighted by the modes' posterior. Differentiable: autograd gives the exact Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kinema.sim.fork import Fork


@dataclass(frozen=True, kw_only=True)
class TwoModes:
    """A mixture of Gaussian chunks with `means` (K, H, A), `weights` (K,) and one standard deviation."""

    means: Tensor
    weights: Tensor
    std: float

    def posterior(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the probability of each mode (B, K) given chunks `x` (B, H, A) at times `t` (B,)."""
        return torch.softmax(self._log_joint(x, t), dim=-1)

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the log density (B,) of `x` (B, H, A) at times `t` (B,), up to a constant that depends on t alone."""
        return torch.logsumexp(self._log_joint(x, t), dim=-1)

    def data(self, x: Tensor, t: Tensor) -> Tensor:
        """Return E[a | x_t] (B, H, A)."""
        gain = t * self.std**2 / self._variance(t)
        return self._mean(x, t, self._centred(x, t) * gain[:, None, None, None] + self.means)

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """Return E[eps | x_t] (B, H, A)."""
        gain = (1 - t) / self._variance(t)
        return self._mean(x, t, self._centred(x, t) * gain[:, None, None, None])

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the flow's velocity E[a - eps | x_t] (B, H, A)."""
        return self.data(x, t) - self.noise(x, t)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the gradient (B, H, A) of the log density with respect to `x`."""
        return self._mean(x, t, -self._centred(x, t) / self._variance(t)[:, None, None, None])

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Return chunks (N, H, A) of the mixture itself."""
        mode = torch.multinomial(self.weights, count, replacement=True, generator=rng)
        return self.means[mode] + self.std * torch.randn(count, *self.means.shape[1:], generator=rng)

    def euler(self, x: Tensor, steps: int) -> Tensor:
        """Return chunks (B, H, A) integrated from noise `x` in `steps` Euler steps."""
        for index in range(steps):
            x = x + self.velocity(x, torch.full((len(x),), index / steps, dtype=x.dtype)) / steps
        return x

    def _variance(self, t: Tensor) -> Tensor:
        return (1 - t) ** 2 + (t * self.std) ** 2

    def _centred(self, x: Tensor, t: Tensor) -> Tensor:
        return x[:, None] - t[:, None, None, None] * self.means

    def _log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        distance = self._centred(x, t).square().sum((-1, -2))
        return self.weights.log() - 0.5 * distance / self._variance(t)[:, None]

    def _mean(self, x: Tensor, t: Tensor, of_mode: Tensor) -> Tensor:
        return (self.posterior(x, t)[:, :, None, None] * of_mode).sum(1)


def fork_modes(fork: Fork, std: float = 0.05) -> TwoModes:
    """Return the mixture around the two noiseless chunks of `fork`."""
    weights = torch.tensor([fork.majority, 1 - fork.majority])
    return TwoModes(means=torch.from_numpy(fork.centres), weights=weights, std=std)
