"""Denoising diffusion over action chunks (Ho et al. 2020; for robots Chi et al. 2023, Diffusion Policy).

Training adds noise of a random step k of T and regresses the noise, the action or v; acting goes back from pure noise
in `steps` steps of a sampler. The denoiser is told t = k / T.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads._losses import step_mean
from kinema.heads.base import DenoisingPath, Head, HeadConfig
from kinema.nets import schedules
from kinema.nets.base import Context
from kinema.nets.conditioning import Conditional, Guidance, repeated
from kinema.nets.denoisers.base import DenoiserConfig
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.noise import Rng, normal, repeated_rng, uniform

FAINTEST, CLEAREST = 1e-3, 0.2
"""Shares of signal between which acting can begin: below, noise that is predicted a little wrong means actions far out;
above, what acting begins with is nothing like what training showed."""


@dataclass(frozen=True, kw_only=True)
class Diffusion(HeadConfig):
    """`train_steps` steps of noise; acting visits `steps` of them. `draws` share one encoded observation in training.

    `clip` bounds the predicted clean actions, and must then be where all normalised actions lie; who predicts "epsilon"
    needs it to begin at the noisiest steps. `eta` 0 draws nothing in DDIM, 1 as much as DDPM. Diffusion Policy has
    clip 1 with actions normalised to [-1, 1], sampler "ddpm" and as many steps as train_steps.

    `past` steps before the newest observed one are denoised with the chunk and cut from it, as in checkpoints of the
    authors' Diffusion Policy: obs_horizon - 1. Training here knows no actions for them: they are noise, as padding is.
    """

    denoiser: DenoiserConfig = field(default_factory=Mlp)
    train_steps: int = 100
    betas: schedules.Betas = "squaredcos_cap_v2"
    prediction: schedules.Prediction = "epsilon"
    clip: float | None = None
    sampler: schedules.Sampler = "ddim"
    steps: int = 10
    spacing: schedules.Spacing = "leading"
    eta: float = 0.0
    draws: int = 4
    past: int = 0
    guidance: Guidance = field(default_factory=Guidance)

    @property
    def bounded(self) -> bool:
        """With a clip of at most 1."""
        return self.clip is not None and self.clip <= 1.0

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> DiffusionHead:
        """Return the head."""
        schedules.check_prediction(self.prediction)
        if self.draws < 1 or not 0.0 <= self.eta <= 1.0 or (self.clip is not None and not self.clip > 0):
            raise KinemaError(
                f"diffusion: draws {self.draws} must be at least 1, eta {self.eta} in [0, 1], clip {self.clip} above 0"
            )
        if self.past < 0:
            raise KinemaError(f"diffusion: past {self.past} must be 0 or more")
        if self.eta and self.sampler != "ddim":
            raise KinemaError(f"diffusion: eta {self.eta} is for the sampler 'ddim', not {self.sampler!r}")
        return DiffusionHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class DiffusionHead(Head, DenoisingPath):
    """The denoiser predicts noise, action or v of a chunk."""

    signal: Tensor
    visited: Tensor
    path: Tensor

    def __init__(self, config: Diffusion, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.levels = config.steps
        self.shape = (config.past + pred_horizon, action_width)
        with torch.device("cpu"):  # the numbers are read here, also where the weights are on the meta device
            signal = schedules.signal(config.betas, config.train_steps)
            visited = schedules.visited(config.spacing, train_steps=config.train_steps, steps=config.steps)
            path = torch.cat([signal[visited], torch.ones(1)])
            _check_begin(config, step=int(visited[0]), level=float(path[0]))
            self.steps = schedules.steps_back(config.sampler, path[:-1], path[1:], eta=config.eta).rows()
            self.register_buffer("signal", signal, persistent=False)
            self.register_buffer("visited", torch.cat([visited, torch.zeros(1, dtype=torch.int64)]), persistent=False)
            self.register_buffer("path", path, persistent=False)
        denoiser = config.denoiser.build(action_width=action_width, pred_horizon=self.shape[0], width=width)
        self.net = Conditional(denoiser, config.guidance, width=width)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the squared error of the prediction averaged over action components and draws, per step."""
        draws, total = self.config.draws, self.config.train_steps
        action, mask = self._with_past(action), self._with_past(mask)
        clean, real = action.repeat_interleave(draws, dim=0), mask.repeat_interleave(draws, dim=0)
        rng = repeated_rng(rng, draws)
        noise = normal(clean.shape, rng, clean.device)
        k = (uniform((len(clean), 1), rng, clean.device)[:, 0] * total).long().clamp(max=total - 1)
        level = self.signal[k][:, None, None]
        # Padding is noise at every step: what it holds must not reach the real steps through the chunk.
        x = torch.where(real if real.ndim == 3 else real[..., None], _mixed(clean, noise, level), noise)
        predicted = self.net(x, k / total, repeated(context, draws), rng=rng)
        error = predicted - schedules.target(self.config.prediction, clean, noise, level)
        return step_mean(error.square(), real).unflatten(0, (-1, draws)).mean(1)[:, self.config.past :]

    def predict(self, x: Tensor, level: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Return the clean chunks and the noise (B, H, A) predicted for `x` (B, H, A) at `level` (B,)."""
        predicted = self.net.guided(x, self.time(level), context)
        clean, noise = schedules.split(self.config.prediction, predicted, x, self.path[level][:, None, None])
        bound = self.config.clip
        return (clean if bound is None else clean.clamp(-bound, bound)), noise

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks after all steps back from noise."""
        readout = context.readout["action"]
        shape, device = (len(readout), *self.shape), readout.device
        x = normal(shape, rng, device)
        before = torch.zeros_like(x)
        for index, (keep, clean, noise, again, fresh) in enumerate(self.steps):
            action, epsilon = self.predict(x, torch.full((len(x),), index, device=device), context)
            x = keep * x + clean * action + noise * epsilon + again * before
            if fresh:
                x = x + fresh * normal(shape, rng, device)
            before = action
        return x[:, self.config.past :]

    def corrupted(self, action: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Return sqrt(abar) a + sqrt(1 - abar) eps."""
        if self.config.past:
            raise KinemaError(f"diffusion: a student cannot learn from a head with past {self.config.past}, expected 0")
        return _mixed(action, noise, self.path[level][:, None, None])

    def advanced(self, x: Tensor, level: Tensor, context: Context) -> Tensor:
        """Return `x` after a step of DDIM without noise, whichever sampler acts."""
        action, noise = self.predict(x, level, context)
        return _mixed(action, noise, self.path[level + 1][:, None, None])

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return sqrt(abar) and -sqrt(1 - abar): with them the denoiser predicts v."""
        return self.path[level] ** 0.5, -((1 - self.path[level]) ** 0.5)

    def time(self, level: Tensor) -> Tensor:
        """Return k / T of the step k that is visited."""
        return self.visited[level] / self.config.train_steps

    def _with_past(self, values: Tensor) -> Tensor:
        """Return `values` (B, H, ...) behind as many zeros as the chunk has past steps."""
        return torch.cat([values.new_zeros(len(values), self.config.past, *values.shape[2:]), values], dim=1)


def _mixed(action: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    return level**0.5 * action + (1 - level) ** 0.5 * noise


def _check_begin(config: Diffusion, *, step: int, level: float) -> None:
    if level > CLEAREST:
        raise KinemaError(
            f"diffusion: {config.steps} {config.spacing!r} steps begin at step {step} of {config.train_steps}, where "
            f"{level:.0%} of the variance should be signal, but acting begins with pure noise\nfix: spacing 'trailing'"
        )
    if level < FAINTEST and config.prediction == "epsilon" and config.clip is None:
        raise KinemaError(
            f"diffusion: prediction 'epsilon' needs a clip to begin at step {step} of {config.train_steps}, where its "
            f"errors count {level**-0.5:.0f} times in the action\n"
            "fix: clip 1.0 with actions normalised to [-1, 1], another prediction, or ten 'leading' steps"
        )
