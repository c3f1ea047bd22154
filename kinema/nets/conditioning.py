"""What a denoiser is conditioned on: one context for several draws, or none at all (classifier-free guidance)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.base import Context
from kinema.nets.denoisers.base import Denoiser
from kinema.nets.noise import Rng, uniform

LARGEST_SCALE = 20.0


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance (Ho & Salimans 2022): in training a share `dropout` of the contexts is replaced.

    Acting extrapolates from the prediction without context to the one with it, by `scale`: 1 is plain conditional, 0
    ignores the context, larger follows it harder and varies less.
    """

    dropout: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0 or not 0.0 <= self.scale <= LARGEST_SCALE:
            raise KinemaError(
                f"guidance: dropout {self.dropout} is not in [0, 1) or scale {self.scale} not in [0, {LARGEST_SCALE:g}]"
            )
        if self.scale != 1.0 and self.dropout == 0.0:
            raise KinemaError(
                f"guidance: scale {self.scale} compares with a prediction without context, which is never trained; "
                "give a dropout above 0, such as 0.1"
            )


class Conditional(nn.Module):
    """A denoiser whose context is at times replaced by a learnt vector."""

    def __init__(self, denoiser: Denoiser, guidance: Guidance, *, width: int) -> None:
        super().__init__()
        if guidance.dropout > 0 and denoiser.reads_kv:
            raise KinemaError(
                f"guidance: dropout {guidance.dropout} replaces the trunk's tokens; {type(denoiser).__name__} reads "
                "its keys and values; expected dropout 0"
            )
        self.denoiser = denoiser
        self.guidance = guidance
        self.nothing = nn.Parameter(torch.zeros(width)) if guidance.dropout > 0 else None

    def forward(self, x: Tensor, t: Tensor, context: Context, *, rng: Rng) -> Tensor:
        """Return the prediction (B, H, A) for the loss: in training, of each entry with or without its context."""
        if self.training and self.nothing is not None:
            dropped = uniform((len(x), 1), rng, x.device)[:, 0] < self.guidance.dropout
            context = self._without(context, self.nothing, dropped)
        return self.denoiser(x, t, context)

    def guided(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the prediction (B, H, A) for acting: free + scale (conditional - free), both from one batch of 2 B."""
        if self.nothing is None or self.guidance.scale == 1.0:
            return self.denoiser(x, t, context)
        dropped = torch.arange(2 * len(x), device=x.device) % 2 == 1
        both = self._without(repeated(context, 2), self.nothing, dropped)
        predicted = self.denoiser(x.repeat_interleave(2, dim=0), t.repeat_interleave(2), both)
        conditional, free = predicted.unflatten(0, (-1, 2)).unbind(1)
        return torch.lerp(free, conditional, self.guidance.scale)

    def _without(self, context: Context, nothing: Tensor, dropped: Tensor) -> Context:
        """Return the context where all tokens of the entries `dropped` (B,) are the learnt vector."""
        gone = dropped[:, None, None]
        readout = {name: torch.where(gone, nothing.to(value), value) for name, value in context.readout.items()}
        return replace(context, tokens=torch.where(gone, nothing.to(context.tokens), context.tokens), readout=readout)


def repeated(context: Context, times: int) -> Context:
    """Return the context with each of its B entries `times` times in a row."""
    return _mapped(context, lambda value: value.repeat_interleave(times, dim=0))


def detached(context: Context) -> Context:
    """Return the context without its gradient: what reads it trains nothing before it."""
    positions = None if context.positions is None else context.positions.detach()
    return replace(_mapped(context, torch.Tensor.detach), positions=positions)


def _mapped(context: Context, change: Callable[[Tensor], Tensor]) -> Context:
    """Return the context with all that has an entry for each of the batch changed."""
    optional = ("private", "posterior", "embodiment", "own")
    given = {name: getattr(context, name) for name in optional}
    changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in given.items()}
    return replace(
        context,
        tokens=change(context.tokens),
        mask=change(context.mask),
        readout={name: change(value) for name, value in context.readout.items()},
        kv=None if context.kv is None else tuple((change(key), change(value)) for key, value in context.kv),
        **changed,
    )
