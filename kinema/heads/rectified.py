"""Rectified flow: a teacher's curved paths made straight, so that one step follows them (Liu et al. 2023).

Reflow trains a second flow on pairs of a noise and the action to which the teacher carries that very noise. The paths
of such pairs do not cross, so they can be straight, and at t = 0 the velocity is the whole way: trained there more
often, the student is distilled to one step. Teacher and student train together in one run: the teacher as it would
alone, the student on the pairs that the teacher gives by then, reading a context that it cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads._losses import refuse_dropout, step_mean
from kinema.heads.base import Head, HeadConfig
from kinema.heads.flow import Flow
from kinema.nets.base import Context
from kinema.nets.conditioning import detached, repeated
from kinema.nets.denoisers.base import DenoiserConfig
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.noise import Rng, repeated_rng, uniform
from kinema.nets.ode import integrate


@dataclass(frozen=True, kw_only=True)
class Rectified(HeadConfig):
    """The student acts in `steps` Euler steps. A share `at_noise` of its `draws` of t is 0, which distils one step."""

    teacher: Flow = field(default_factory=Flow)
    denoiser: DenoiserConfig = field(default_factory=Mlp)
    steps: int = 1
    at_noise: float = 0.5
    draws: int = 4

    @property
    def private(self) -> str | None:
        """As the teacher."""
        return self.teacher.private

    @property
    def private_width(self) -> int | None:
        """As the teacher."""
        return self.teacher.private_width

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> RectifiedHead:
        """Return the head."""
        if self.steps < 1 or self.draws < 1 or not 0.0 <= self.at_noise <= 1.0:
            raise KinemaError(
                f"rectified: steps {self.steps} and draws {self.draws} must be at least 1, "
                f"at_noise {self.at_noise} in [0, 1]"
            )
        return RectifiedHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class RectifiedHead(Head):
    """A teacher, which has no dropout, and its student; only the student acts."""

    def __init__(self, config: Rectified, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.teacher = config.teacher.build(action_width=action_width, pred_horizon=pred_horizon, width=width)
        self.student = config.denoiser.build(action_width=action_width, pred_horizon=pred_horizon, width=width)
        refuse_dropout("rectified", teacher=self.teacher)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the teacher's loss plus the student's, per step; the student's has no gradient into the context."""
        return self.teacher.loss(context, action, mask, rng=rng) + self._reflow(detached(context), mask, rng)

    def _reflow(self, context: Context, mask: Tensor, rng: Rng) -> Tensor:
        """Return |v(x_t, t) - (x_1 - x_0)|^2 per step for x_1 = teacher(x_0), averaged over the draws of t."""
        draws = self.config.draws
        with torch.no_grad():
            noise = self.teacher.noise(context, rng=rng)
            action = self.teacher.carry(noise, context)
        noise, action = noise.repeat_interleave(draws, dim=0), action.repeat_interleave(draws, dim=0)
        # What is left of a uniform number above the share is uniform again.
        drawn = uniform((len(noise), 1), repeated_rng(rng, draws), noise.device)[:, 0]
        t = (drawn - self.config.at_noise).clamp(min=0.0) / max(1.0 - self.config.at_noise, 1e-6)
        velocity = self.student(torch.lerp(noise, action, t[:, None, None]), t, repeated(context, draws))
        error = (velocity - (action - noise)).square()
        return step_mean(error, mask.repeat_interleave(draws, dim=0)).unflatten(0, (-1, draws)).mean(1)

    def velocity(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the student's velocity (B, H, A) at chunks `x` (B, H, A) and times `t` (B,)."""
        return self.student(x, t, context)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return the chunks to which the student carries noise."""
        noise = self.teacher.noise(context, rng=rng)
        return integrate(lambda x, t: self.velocity(x, t, context), noise, steps=self.config.steps)
