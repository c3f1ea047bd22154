"""Implicit behavioural cloning: an energy of context and chunk, low where demonstrations are (Florence et al. 2021).

Training picks the demonstrated chunk out of counter-examples (InfoNCE, eq. 2); acting searches for low energies without
derivatives or with Langevin steps. An energy may jump where a regression has to blur. Actions must be scaled to
[-1, 1]: counter-examples are drawn there, and acting searches there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import KinemaError, unknown
from kinema.heads._losses import entry_mean
from kinema.heads.base import Head, HeadConfig
from kinema.nets.base import Context
from kinema.nets.blocks import ResidualMlp
from kinema.nets.noise import Rng, draw, normal, uniform

Search = Literal["derivative_free", "langevin"]
_ROUNDS, _SPREAD = 3, 0.33
"""Derivative-free search: rounds of choosing, and the std of the noise after the first, halved after each."""
_FIRST_STEP, _LAST_STEP, _POWER, _CLIP = 0.1, 1e-5, 2.0, 0.1
"""Langevin steps: their sizes fall as a polynomial, and none moves a number by more than the clip."""


@dataclass(frozen=True, kw_only=True)
class Energy(HeadConfig):
    """`negatives` counter-examples a chunk in training, `candidates` searched when acting, in `steps` Langevin steps.

    `refine` Langevin steps make the counter-examples harder (the reference takes 25, at as many times the cost).
    `penalty` weighs the squared excess of the energy's largest slope over `margin`. `temperature` 1 draws one of the
    candidates found by its energy, 0 takes the lowest, as the reference does: at its margin of 1 energies are too flat
    to be drawn from. Uniform counter-examples teach little about chunks of many numbers: predict few steps.
    """

    hidden: int = 256
    blocks: int = 3
    negatives: int = 64
    refine: int = 0
    penalty: float = 1.0
    margin: float = 10.0
    search: Search = "langevin"
    candidates: int = 256
    steps: int = 50
    temperature: float = 1.0

    @property
    def bounded(self) -> bool:
        """Counter-examples are drawn from [-1, 1], and acting searches there."""
        return True

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> EnergyHead:
        """Return the head."""
        if self.search not in get_args(Search):
            raise unknown("search of an energy", self.search, get_args(Search))
        if min(self.negatives, self.candidates) < 1 or self.steps < 2 or self.refine not in (0, *range(2, 1000)):
            raise KinemaError(
                f"energy: negatives {self.negatives} and candidates {self.candidates} must be at least 1, "
                f"steps {self.steps} at least 2, refine {self.refine} 0 or at least 2"
            )
        if not (self.penalty >= 0 and self.margin >= 0 and self.temperature >= 0):
            raise KinemaError(
                f"energy: penalty {self.penalty}, margin {self.margin} and temperature {self.temperature} "
                "must be at least 0"
            )
        return EnergyHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class EnergyHead(Head):
    """Readout `action` (B, 1, D) and chunks (B, N, H, A) to energies (B, N)."""

    def __init__(self, config: Energy, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (pred_horizon, action_width)
        self.enter_chunk = nn.Linear(pred_horizon * action_width, config.hidden)
        self.enter_readout = nn.Linear(width, config.hidden)
        self.judge = ResidualMlp(config.hidden, 1, blocks=config.blocks)

    def energy(self, chunks: Tensor, readout: Tensor) -> Tensor:
        """Return the energies (B, N) of `chunks` (B, N, H, A) for `readout` (B, D)."""
        hidden = self.enter_chunk(chunks.flatten(2)) + self.enter_readout(readout)[:, None]
        return self.judge(F.silu(hidden))[..., 0].float()

    def slope(self, chunks: Tensor, readout: Tensor) -> Tensor:
        """Return the derivative (B, N, H, A) of the energies by `chunks`, also where gradients are switched off."""
        return torch.func.grad(lambda values: self.energy(values, readout).sum())(chunks)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return InfoNCE and the penalty on the slope of each chunk, shared by its real steps."""
        readout = context.readout["action"][:, 0]
        real = (mask if mask.ndim == 3 else mask[..., None])[:, None]
        noise = 2 * uniform((len(action), self.config.negatives + 1, *self.shape), rng, action.device) - 1
        padding, negatives = noise[:, :1], noise[:, 1:]
        if self.config.refine:
            with torch.no_grad():
                negatives = self._langevin(negatives, readout, rng, self.config.refine)
        # Padding is the same noise in all chunks of an entry: it cannot tell them apart.
        chunks = torch.where(real, torch.cat([action[:, None], negatives], dim=1), padding).detach()
        label = torch.zeros(len(action), dtype=torch.long, device=action.device)
        loss = F.cross_entropy(-self.energy(chunks, readout), label, reduction="none")
        if self.config.penalty:
            steepest = self.slope(chunks, readout).flatten(2).abs().amax(-1)
            loss = loss + self.config.penalty * (steepest - self.config.margin).relu().square().mean(-1)
        return entry_mean(loss, mask)

    @torch.no_grad()
    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return one chunk of the candidates found for each entry."""
        readout = context.readout["action"][:, 0]
        chunks = 2 * uniform((len(readout), self.config.candidates, *self.shape), rng, readout.device) - 1
        if self.config.search == "langevin":
            chunks = self._langevin(chunks, readout, rng, self.config.steps)
        else:
            chunks = self._derivative_free(chunks, readout, rng)
        return self._chosen(chunks, readout, rng, 1, self.config.temperature)[:, 0]

    def _derivative_free(self, chunks: Tensor, readout: Tensor, rng: Rng) -> Tensor:
        """Return candidates (B, N, H, A) after rounds of choosing by energy and adding noise (algorithm 1)."""
        for number in range(_ROUNDS - 1):
            chosen = self._chosen(chunks, readout, rng, chunks.shape[1], 1.0)
            noise = _SPREAD * 0.5**number * normal(chosen.shape, rng, chosen.device)
            chunks = (chosen + noise).clamp(-1, 1)
        return chunks

    def _langevin(self, chunks: Tensor, readout: Tensor, rng: Rng, steps: int) -> Tensor:
        """Return candidates (B, N, H, A) after Langevin steps in the convention of the authors' code (`mcmc.py`).

        The step's size scales the noise too, not its square root as in Langevin dynamics: it is a search.
        """
        for index in range(steps):
            size = (_FIRST_STEP - _LAST_STEP) * (1 - index / (steps - 1)) ** _POWER + _LAST_STEP
            noise = normal(chunks.shape, rng, chunks.device)
            move = size * (0.5 * self.slope(chunks, readout) + noise)
            chunks = (chunks - move.clamp(-_CLIP, _CLIP)).clamp(-1, 1)
        return chunks

    def _chosen(self, chunks: Tensor, readout: Tensor, rng: Rng, count: int, temperature: float) -> Tensor:
        """Return `count` of the chunks (B, N, H, A), drawn by their energies with replacement."""
        noise = uniform((len(chunks), count), rng, chunks.device)
        which = draw(-self.energy(chunks, readout), noise, temperature=temperature)
        return chunks.gather(1, which[..., None, None].expand(-1, -1, *self.shape))
