"""Conditional flow matching over action chunks (Lipman et al. 2023; for robots Black et al. 2024, pi0).

t = 0 is noise, t = 1 is data. Training draws eps ~ N(0, I) and t, forms x_t = (1 - t) eps + t a, and regresses the
velocity a - eps; acting integrates dx/dt = v(x, t) from noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from kinema.core.errors import KinemaError, unknown
from kinema.core.policy import Guide
from kinema.heads._losses import step_mean
from kinema.heads.base import AcceptsGuide, DenoisingPath, Head, HeadConfig
from kinema.nets.base import Context
from kinema.nets.conditioning import Conditional, Guidance, repeated
from kinema.nets.denoisers.base import DenoiserConfig
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.inpainting import pulled
from kinema.nets.noise import Rng, normal, repeated_rng, uniform
from kinema.nets.ode import Integrator, advance, check_integrator, integrate

Times = Literal["uniform", "beta"]


@dataclass(frozen=True, kw_only=True)
class Flow(HeadConfig):
    """`steps` steps of the `integrator` when acting.

    In training, `draws` of noise and time share one encoded observation. `time` is how t is drawn: "beta" puts more
    weight on noisy times, 1 - (0.999 Beta(1.5, 1) + 0.001) as in pi0. With a `prefix` training gives the first 0 to
    `prefix` steps of chunks clean, each step with a time of its own, and asks only for the others: such a head can be
    held to what is being executed (arXiv 2512.05964).

    `state` names an encoder whose tokens the denoiser reads and the trunk does not, as pi0's expert reads the state.
    """

    denoiser: DenoiserConfig = field(default_factory=Mlp)
    steps: int = 10
    integrator: Integrator = "euler"
    draws: int = 4
    time: Times = "beta"
    guidance: Guidance = field(default_factory=Guidance)
    prefix: int = 0
    state: str | None = None

    @property
    def private(self) -> str | None:
        """The state."""
        return self.state

    @property
    def private_width(self) -> int | None:
        """As the denoiser reads it."""
        return self.denoiser.private_width

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> FlowHead:
        """Return the head."""
        if self.steps < 1 or self.draws < 1:
            raise KinemaError(f"flow: steps {self.steps} and draws {self.draws} must be at least 1")
        if self.time not in get_args(Times):
            raise unknown("time of a flow", self.time, get_args(Times))
        if not 0 <= self.prefix < pred_horizon:
            raise KinemaError(f"flow: prefix {self.prefix} must be at least 0 and below pred_horizon {pred_horizon}")
        if self.state is not None and self.denoiser.private_width is None:
            raise KinemaError(
                f"flow: {type(self.denoiser).__name__} reads no tokens beside the trunk's, so the state {self.state!r} "
                "would reach nothing\nfix: an Expert denoiser, or state None"
            )
        check_integrator(self.integrator)
        return FlowHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class FlowHead(Head, AcceptsGuide, DenoisingPath):
    """The denoiser predicts the velocity of a chunk."""

    def __init__(self, config: Flow, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.levels = config.steps
        self.shape = (pred_horizon, action_width)
        clocked = action_width + (config.prefix > 0)
        denoiser = config.denoiser.build(action_width=clocked, pred_horizon=pred_horizon, width=width)
        self.net = Conditional(denoiser, config.guidance, width=width)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the squared velocity error averaged over action components and draws, per step."""
        draws = self.config.draws
        target, real = action.repeat_interleave(draws, dim=0), mask.repeat_interleave(draws, dim=0)
        rng = repeated_rng(rng, draws)
        noise = normal(target.shape, rng, target.device)
        t = self._times(len(target), rng, target.device)
        known = self._known(len(target), rng, target.device) & (real if real.ndim == 2 else real.any(-1))
        blurred = torch.where(known[..., None], target, torch.lerp(noise, target, t[:, None, None]))
        # Padding is noise at every t: what it holds must not reach the real steps through the chunk.
        x = torch.where(real if real.ndim == 3 else real[..., None], blurred, noise)
        velocity = self.net(self._clocked(x, t, known), t, repeated(context, draws), rng=rng)[..., : self.shape[1]]
        asked = real & ~(known[..., None] if real.ndim == 3 else known)
        return step_mean((velocity - (target - noise)).square(), asked).unflatten(0, (-1, draws)).mean(1)

    def _known(self, count: int, rng: Rng, device: torch.device) -> Tensor:
        """Return which steps (B, H) training gives clean: the first 0 to `prefix`, all lengths equally often."""
        step = torch.arange(self.shape[0], device=device).expand(count, -1)
        if not self.config.prefix:
            return step < 0
        return step < (uniform((count, 1), rng, device) * (self.config.prefix + 1)).floor()

    def _clocked(self, x: Tensor, t: Tensor, known: Tensor) -> Tensor:
        """Return `x` with each step's own time as a further component, 1 where it is `known`; plain without prefix."""
        if not self.config.prefix:
            return x
        return torch.cat([x, torch.where(known, 1.0, t[:, None])[..., None].to(x)], dim=-1)

    def _times(self, count: int, rng: Rng, device: torch.device) -> Tensor:
        drawn = uniform((count, 1), rng, device)[:, 0]
        if self.config.time == "uniform":
            return drawn
        return 1.0 - (0.999 * drawn ** (1 / 1.5) + 0.001)  # Beta(1.5, 1) has the inverse distribution u^(2/3)

    def velocity(self, x: Tensor, t: Tensor, context: Context, known: Tensor | None = None) -> Tensor:
        """Return the velocity (B, H, A) that acting follows at chunks `x` (B, H, A) and times `t` (B,).

        The steps `known` (H,) bool are clean actions and stay; only a head trained with a prefix takes any.
        """
        given = torch.zeros(self.shape[0], dtype=torch.bool, device=x.device) if known is None else known
        velocity = self.net.guided(self._clocked(x, t, given.expand(len(x), -1)), t, context)[..., : self.shape[1]]
        return velocity if known is None else velocity.masked_fill(known[:, None], 0.0)

    def noise(self, context: Context, *, rng: Rng) -> Tensor:
        """Return where `sample` starts (B, H, A)."""
        readout = context.readout["action"]
        return normal((len(readout), *self.shape), rng, readout.device)

    def carry(self, noise: Tensor, context: Context) -> Tensor:
        """Return the chunks (B, H, A) to which the flow carries `noise` (B, H, A)."""
        steps, integrator = self.config.steps, self.config.integrator
        return integrate(lambda x, t: self.velocity(x, t, context), noise, steps=steps, integrator=integrator)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks integrated from noise."""
        return self.carry(self.noise(context, rng=rng), context)

    def check_guide(self, method: str, held: int) -> None:
        """Raise KinemaError when more steps are to be held than training ever gave."""
        if method == "inpaint" and held > self.config.prefix:
            raise KinemaError(
                f"flow: {held} steps are to be held, but training gave at most {self.config.prefix}\n"
                f"fix: train with a prefix of {held}, or use the method guided"
            )

    def sample_guided(self, context: Context, guide: Guide, *, rng: Rng) -> Tensor:
        """Return chunks integrated from noise that agree with `guide`; with "inpaint" they hold its steps exactly."""
        noise, steps, integrator = self.noise(context, rng=rng), self.config.steps, self.config.integrator
        if guide.method == "guided":
            way = pulled(lambda x, t: self.velocity(x, t, context), guide.action, guide.weight, limit=guide.limit)
            return integrate(way, noise, steps=steps, integrator=integrator)
        known = guide.weight == 1
        begin = torch.where(known[:, None], guide.action, noise)
        return integrate(lambda x, t: self.velocity(x, t, context, known), begin, steps=steps, integrator=integrator)

    def corrupted(self, action: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Return (1 - t) eps + t a at t = level / steps."""
        return torch.lerp(noise, action, self.time(level)[:, None, None])

    def advanced(self, x: Tensor, level: Tensor, context: Context) -> Tensor:
        """Return `x` one step of the integrator on."""
        return advance(
            lambda y, t: self.velocity(y, t, context), x, self.time(level), 1 / self.levels, self.config.integrator
        )

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 and 1 - t: with them the denoiser is the mean velocity from t to 1."""
        t = self.time(level)
        return torch.ones_like(t), 1 - t

    def time(self, level: Tensor) -> Tensor:
        """Return t = level / steps."""
        return level / self.levels
