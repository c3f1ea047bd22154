"""VQ-BeT: chunks become codes of a residual vector quantiser; the head predicts the codes and adds an offset.

Lee et al. 2024, "Behavior Generation with Latent Actions"; constants as in the authors' code. Stage 1 trains an
autoencoder of chunks, stage 2 keeps it fixed and trains the predictor. Both happen in one run: the head counts its
training steps in a buffer, saved with the weights, and after `quantiser_steps` of them the loss is that of stage 2. The
quantiser's weights of that moment stay in buffers (`fixed`), which the optimiser's momentum and decay cannot move.

The loss jumps at that step: stage 1 is of the order of the actions, stage 2 of `offset_weight` times the actions. The
rest of the policy stands still in stage 1: it gets no gradient, so that the optimiser leaves it alone and its moments
begin with stage 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError, unknown
from kinema.heads._losses import entry_mean, step_mean
from kinema.heads.base import Head, HeadConfig, LearnsInStages
from kinema.nets.base import Context
from kinema.nets.noise import Rng, draw, uniform
from kinema.nets.vq import ChunkAutoencoder

COMMITMENT = 5.0
"""Weight of the quantiser's commitment beside the reconstruction error."""
Codes = Literal["demonstrated", "sampled"]


@dataclass(frozen=True, kw_only=True)
class VqBet(HeadConfig):
    """`quantiser_steps` of the run train the quantiser: one codebook of `codes` codes for each of `code_weights`.

    `code_weights` are the weights of the layers' focal losses (exponent `gamma`), primary first. `offset_weight` is
    that of the offset's absolute error, averaged over entries, steps and components: 1e4 in LeRobot, 1e3 by default in
    the authors' code. `temperature` sharpens the codes' distribution when acting.

    `offset_for` says on which codes the offset is trained. The published code takes codes "sampled" from the
    prediction, whatever was demonstrated: then the offset of one mode is pulled towards the other. "demonstrated" takes
    the chunk's own codes, as its predecessor BeT does. `revive` is that of `ResidualQuantiser`.
    """

    quantiser_steps: int
    codes: int = 16
    code_weights: tuple[float, ...] = (5.0, 0.5)
    latent: int = 256
    hidden: int = 128
    gamma: float = 2.0
    offset_weight: float = 1e4
    offset_for: Codes = "demonstrated"
    temperature: float = 1.0
    revive: float = 0.1

    def check_steps(self, steps: int) -> None:
        """Raise KinemaError unless some of `steps` training steps are left for the predictor."""
        if self.quantiser_steps >= steps:
            raise KinemaError(
                f"vq_bet: quantiser_steps {self.quantiser_steps} leave the predictor none of the run's {steps} steps"
            )

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> VqBetHead:
        """Return the head."""
        if self.offset_for not in get_args(Codes):
            raise unknown("vq_bet offset_for", self.offset_for, get_args(Codes))
        # Between, the derivative of (1 - p)^gamma is infinite at p = 1.
        sharp = self.gamma == 0 or self.gamma >= 1
        if self.quantiser_steps < 1 or not self.code_weights or self.temperature < 0 or not sharp:
            raise KinemaError(
                f"vq_bet: quantiser_steps {self.quantiser_steps} (1 or more), code_weights {self.code_weights} (one or "
                f"more), temperature {self.temperature} (0 or more) or gamma {self.gamma} (0, from 1) is out of range"
            )
        return VqBetHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class VqBetHead(Head, LearnsInStages):
    """Readout `action` (B, 1, D) to the logits of codes and to an offset (H A) for each code of each layer."""

    steps: Tensor

    def __init__(self, config: VqBet, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (pred_horizon, action_width)
        self.layers, size = len(config.code_weights), pred_horizon * action_width
        self.autoencoder = ChunkAutoencoder(
            size,
            hidden=config.hidden,
            latent=config.latent,
            layers=self.layers,
            codes=config.codes,
            revive=config.revive,
        )
        self.fixed = self.autoencoder.as_buffers()
        self.predict_codes = nn.Linear(width, self.layers * config.codes)
        self.predict_offsets = nn.Linear(width, self.layers * config.codes * size)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the loss of the present stage, per step: terms of whole chunks are added to all their real steps."""
        chunk, readout = held(action, mask).flatten(1), context.readout["action"][:, 0]
        # Numbers, not tensors: a compiled graph is of one stage, and of one only.
        done = int(self.steps)
        learning = done < self.config.quantiser_steps
        if self.training:
            if done == self.config.quantiser_steps:
                self._fix()
            self.steps.add_(mask.any())  # without entries of its own a part of several robots learns nothing
        if learning:
            return self._reconstruction(chunk, mask, rng)
        # Between the stages, until the first step of stage 2 copies it, the quantiser is the one that stage 1 left.
        between = done == self.config.quantiser_steps and not self.training
        return self._prediction(self.autoencoder if between else self.fixed, readout, chunk, mask, rng)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return the chunks of codes drawn at the head's temperature, offsets added; a KinemaError in stage 1."""
        asked = not torch.compiler.is_compiling() and (context.own is None or bool(context.own.any()))
        if asked and int(self.steps) <= self.config.quantiser_steps:
            raise KinemaError(
                f"vq_bet: after {int(self.steps)} training steps the head cannot act yet: the first "
                f"{self.config.quantiser_steps} train its quantiser (quantiser_steps), the predictor learns after them"
            )
        readout = context.readout["action"][:, 0]
        codes = self._draw(self._logits(readout), rng)
        return (self.fixed.decode(codes) + self._offset(readout, codes)).view(-1, *self.shape)

    def end_stage(self) -> None:
        """Go on to stage 2, with the quantiser as it is."""
        self.steps.clamp_(min=self.config.quantiser_steps)

    def _reconstruction(self, chunk: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """Return L1 + 5 * commitment per step (B, H), and let the codebooks follow."""
        latent = self.autoencoder.encoder(chunk)
        rounded = self.autoencoder.quantiser(latent)
        error = self._error(self.autoencoder.decoder(rounded.vectors), chunk, mask)
        if self.training:
            keep = mask.flatten(1).any(-1)
            self.autoencoder.quantiser.learn(latent, rounded.codes, keep, rng=rng)
        return error + entry_mean(COMMITMENT * rounded.commitment, mask)

    def _prediction(self, fixed: ChunkAutoencoder, readout: Tensor, chunk: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """Return focal losses of the codes + weighted L1 of the chunk with its offset, per step (B, H)."""
        with torch.no_grad():
            own = fixed.codes(chunk)
        logits = self._logits(readout)
        weights = logits.new_tensor(self.config.code_weights)
        codes = self._draw(logits, rng) if self.config.offset_for == "sampled" else own
        error = self._error(fixed.decode(codes) + self._offset(readout, codes), chunk, mask)
        named = (focal(logits, own, self.config.gamma) * weights).sum(-1)
        return entry_mean(named, mask) + self.config.offset_weight * error

    def _error(self, predicted: Tensor, chunk: Tensor, mask: Tensor) -> Tensor:
        """Return the mean absolute error of each step (B, H) of `predicted` (B, H A)."""
        return step_mean((predicted.float() - chunk).abs().view(-1, *self.shape), mask)

    def _logits(self, readout: Tensor) -> Tensor:
        return self.predict_codes(readout).float().view(len(readout), self.layers, self.config.codes)

    def _draw(self, logits: Tensor, rng: Rng) -> Tensor:
        noise = uniform((*logits.shape[:-1], 1), rng, logits.device)
        return draw(logits.detach(), noise, temperature=self.config.temperature)[..., 0]

    def _offset(self, readout: Tensor, codes: Tensor) -> Tensor:
        """Return the sum over layers of the offsets (B, H A) that belong to `codes` (B, Q)."""
        offsets = self.predict_offsets(readout).float().view(*codes.shape, self.config.codes, -1)
        wanted = codes[..., None, None].expand(-1, -1, 1, offsets.shape[-1])
        return offsets.gather(2, wanted)[:, :, 0].sum(1)

    @torch.no_grad()
    def _fix(self) -> None:
        live = {**dict(self.autoencoder.named_parameters()), **dict(self.autoencoder.named_buffers())}
        for name, buffer in self.fixed.named_buffers():
            buffer.copy_(live[name])


def focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p)^gamma log p of `target` (...) under `logits` (..., V) (Lin et al. 2017, eq. 4)."""
    log_p = logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    return -((1.0 - log_p.exp()) ** gamma) * log_p


def held(action: Tensor, mask: Tensor) -> Tensor:
    """Return `action` (B, H, A) with the last real step held through padded ones, and 0 for padded components."""
    steps = mask if mask.ndim == 2 else mask.any(-1)
    number = torch.arange(steps.shape[1], device=steps.device)
    last = torch.where(steps, number, 0).cummax(1).values
    real = torch.where(mask if mask.ndim == 3 else mask[..., None], action, 0.0)
    return real.gather(1, last[..., None].expand_as(real))
