"""Consistency distillation: one step instead of a teacher's many (Song et al. 2023; for robots Prasad et al. 2024).

A student f maps every point of a teacher's path from noise to action to where the path ends. It learns that f agrees
with itself one step of the teacher further on, and at the end f is the identity by construction. Teacher and student
train together in one run: the teacher as it would alone, the student on what the teacher knows by then, reading a
context that it cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads._losses import refuse_dropout, step_mean
from kinema.heads.base import DenoisingPath, Head, HeadConfig
from kinema.heads.flow import Flow
from kinema.nets.base import Context
from kinema.nets.conditioning import detached, repeated
from kinema.nets.denoisers.base import DenoiserConfig
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.noise import Rng, normal, repeated_rng, uniform


@dataclass(frozen=True, kw_only=True)
class Consistency(HeadConfig):
    """`teacher` is a flow or diffusion head, whose `steps` the student takes in one, its guidance included."""

    teacher: HeadConfig = field(default_factory=Flow)
    denoiser: DenoiserConfig = field(default_factory=Mlp)
    draws: int = 4

    @property
    def bounded(self) -> bool:
        """As the teacher."""
        return self.teacher.bounded

    @property
    def private(self) -> str | None:
        """As the teacher."""
        return self.teacher.private

    @property
    def private_width(self) -> int | None:
        """As the teacher."""
        return self.teacher.private_width

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> ConsistencyHead:
        """Return the head."""
        if self.draws < 1:
            raise KinemaError(f"consistency: draws {self.draws} must be at least 1")
        return ConsistencyHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class ConsistencyHead(Head):
    """A teacher and its student; only the student acts. Neither has dropout, as both make what the student learns."""

    def __init__(self, config: Consistency, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.draws = config.draws
        self.shape = (pred_horizon, action_width)
        teacher = config.teacher.build(action_width=action_width, pred_horizon=pred_horizon, width=width)
        if not isinstance(teacher, DenoisingPath):
            raise KinemaError(
                f"consistency: a teacher carries noise to actions, which {type(config.teacher).__name__} does not; "
                "expected Flow or Diffusion"
            )
        self.teacher = teacher
        self.student = config.denoiser.build(action_width=action_width, pred_horizon=pred_horizon, width=width)
        refuse_dropout("consistency", teacher=self.teacher, student=self.student)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the teacher's loss plus the student's, per step; the student's has no gradient into the context."""
        taught = self.teacher.loss(context, action, mask, rng=rng)
        draws = self.draws
        clean, real = action.repeat_interleave(draws, dim=0), mask.repeat_interleave(draws, dim=0)
        learnt = self._disagreement(repeated(detached(context), draws), clean, real, repeated_rng(rng, draws))
        return taught + learnt.unflatten(0, (-1, draws)).mean(1)

    def _disagreement(self, context: Context, action: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """Return |f(x) - f(x one step on)|^2 / c^2 per step, c being what scales F (Song et al. 2023, eq. 7)."""
        path, kept = self.teacher, mask if mask.ndim == 3 else mask[..., None]
        noise = normal(action.shape, rng, action.device)
        level = (uniform((len(action), 1), rng, action.device)[:, 0] * path.levels).long().clamp(max=path.levels - 1)
        # Padding is noise throughout, as in the teacher's training.
        x = torch.where(kept, path.corrupted(action, noise, level), noise)
        with torch.no_grad():
            onward = torch.where(kept, path.advanced(x, level, context), noise)
            target = self.consistent(onward, level + 1, context)
        scale = path.scales(level)[1][:, None, None]
        return step_mean(((self.consistent(x, level, context) - target) / scale).square(), mask)

    def consistent(self, x: Tensor, level: Tensor, context: Context) -> Tensor:
        """Return f (B, H, A), where the path of the teacher from `x` (B, H, A) at `level` (B,) ends."""
        skip, scale = (factor[:, None, None] for factor in self.teacher.scales(level))
        return skip * x + scale * self.student(x, self.teacher.time(level), context)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks made of noise in one step."""
        readout = context.readout["action"]
        noise = normal((len(readout), *self.shape), rng, readout.device)
        return self.consistent(noise, torch.zeros(len(noise), dtype=torch.int64, device=noise.device), context)
