"""ACT's conditional variational autoencoder (Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation").

In training a transformer reads the demonstrated chunk and gives the trunk a latent z in R^32, its "style"; chunk
queries decode the trunk's tokens into the actions. When acting z = 0: the same chunk for the same observation, no
sampler. With `prior` "normal" z ~ N(0, I), which draws different chunks as far as training kept them apart in z.

The loss is L1 + beta * KL(q(z | chunk) || N(0, I)), KL summed over z and averaged over chunks. It is spread over the
real steps of the batch so that their mean is this value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError, unknown
from kinema.heads._losses import entry_mean, step_mean
from kinema.heads.base import ConditioningConfig, ConditionsTrunk, Head
from kinema.nets.base import Context
from kinema.nets.detr import DecoderLayer, EncoderLayer, fixed_positions, xavier
from kinema.nets.noise import Rng, normal

Prior = Literal["zero", "normal"]
Reduction = Literal["all_steps", "real_steps"]


@dataclass(frozen=True, kw_only=True)
class Cvae(ConditioningConfig):
    """The posterior sees the tokens of the encoder `state`, if named, and the chunk; `beta` weighs its KL.

    `decoder_layers` is 1: the authors configure 7, but their code reads the output of the first alone. `reduction` says
    what the absolute error is averaged over: "all_steps", the authors', divides by padding too, so that chunks near an
    episode's end count less beside the KL; "real_steps" does not.
    """

    state: str | None = None
    latent: int = 32
    beta: float = 10.0
    prior: Prior = "zero"
    reduction: Reduction = "all_steps"
    posterior_layers: int = 4
    decoder_layers: int = 1
    heads: int = 8
    hidden: int = 3200
    dropout: float = 0.1

    @property
    def private(self) -> str | None:
        """The encoder of the state."""
        return self.state

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> CvaeHead:
        """Return the head."""
        for name, value, known in (("prior", self.prior, Prior), ("reduction", self.reduction, Reduction)):
            if value not in get_args(known):
                raise unknown(f"cvae {name}", value, get_args(known))
        if self.beta < 0 or min(self.latent, self.posterior_layers, self.decoder_layers) < 1:
            raise KinemaError(
                f"cvae: beta {self.beta} (0 or more), latent {self.latent}, posterior_layers {self.posterior_layers} "
                f"or decoder_layers {self.decoder_layers} (1 or more) is out of range"
            )
        return CvaeHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class CvaeHead(Head, ConditionsTrunk):
    """Chunk queries (H, D) attend the tokens of the context."""

    def __init__(self, config: Cvae, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        size: dict[str, Any] = {"heads": config.heads, "hidden": config.hidden, "dropout": config.dropout}
        self.read_out = nn.Embedding(1, width)
        self.read_action = nn.Linear(action_width, width)
        self.posterior = nn.ModuleList([EncoderLayer(width, **size) for _ in range(config.posterior_layers)])
        self.to_latent = nn.Linear(width, 2 * config.latent)
        self.from_latent = nn.Linear(config.latent, width)
        self.queries = nn.Embedding(pred_horizon, width)
        self.decoder = nn.ModuleList([DecoderLayer(width, **size) for _ in range(config.decoder_layers)])
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, action_width)
        xavier(self.decoder)

    def condition(self, seen: Tensor | None, action: Tensor, mask: Tensor, *, rng: Rng) -> tuple[Tensor, Tensor]:
        """Return the token of a latent drawn from the posterior, and the posterior's mean and log variance (B, 2 Z)."""
        steps = mask if mask.ndim == 2 else mask.any(-1)
        real = torch.where(mask if mask.ndim == 3 else mask[..., None], action, 0.0)
        first = [self.read_out.weight.expand(len(action), 1, -1)] + ([] if seen is None else [seen])
        tokens = torch.cat([*first, self.read_action(real)], dim=1)
        ahead = torch.ones(len(action), tokens.shape[1] - steps.shape[1], dtype=torch.bool, device=steps.device)
        positions = fixed_positions(tokens.shape[1], tokens.shape[2], tokens.device)
        present, last = torch.cat([ahead, steps], dim=1), len(self.posterior) - 1
        for number, layer in enumerate(self.posterior):
            # The first token alone is read: the last layer need not make the others.
            tokens = layer(tokens, positions, present, first=1 if number == last else None)
        posterior = self.to_latent(tokens[:, 0]).float()
        mean, log_variance = posterior.chunk(2, dim=-1)
        latent = mean + (0.5 * log_variance).exp() * normal(mean.shape, rng, mean.device)
        return self.from_latent(latent)[:, None], posterior

    def prior(self, batch: int, *, rng: Rng) -> Tensor:
        """Return the token of z = 0, or of a z drawn from N(0, I)."""
        latent = self.from_latent.weight.new_zeros(batch, self.config.latent)
        if self.config.prior == "normal":
            latent = normal(latent.shape, rng, latent.device)
        return self.from_latent(latent)[:, None]

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the absolute error averaged over action components, plus beta * KL, per step."""
        if context.posterior is None:
            raise KinemaError("the loss of a cvae head needs a context that its own posterior has conditioned")
        error = step_mean((self._decode(context) - action).abs(), mask)
        if self.config.reduction == "all_steps":
            real = mask if mask.ndim == 2 else mask.any(-1)
            error = error * real.float().mean()
        return error + entry_mean(self.config.beta * kl(*context.posterior.chunk(2, dim=-1)), mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return the chunks decoded from a context that the prior has conditioned."""
        return self._decode(context)

    def _decode(self, context: Context) -> Tensor:
        keys = context.tokens if context.positions is None else context.tokens + context.positions
        queries = self.queries.weight
        # Until they read the tokens the queries of all entries are alike, but for what dropout takes from each.
        x = torch.zeros_like(queries).expand(len(keys) if self.training else 1, -1, -1)
        for layer in self.decoder:
            x = layer(x, queries, context.tokens, keys, context.mask)
        return self.project(self.norm(x)).float()


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, diag exp log_variance) || N(0, I)) (B,), summed over the latent (Kingma & Welling, app. B).

    The code of ACT calls the log variance `log_sigma_x2`.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)
