"""Chunks as rows of a codec's tokens, and back: what heads that say them token by token share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kinema.actions.bins import Bins
from kinema.actions.codec import Codec, Elementwise, Unfitted, fitted, without_padding
from kinema.core.errors import KinemaError
from kinema.heads._losses import entry_mean, step_mean
from kinema.heads.base import HeadConfig
from kinema.nets.codec_table import CodecTable
from kinema.nets.noise import Rng, draw, uniform

Self = TypeVar("Self", bound="SaysTokens")
Memory = TypeVar("Memory")
Step = Callable[[Tensor | None, int, Memory], tuple[Tensor, Memory]]


@dataclass(frozen=True, kw_only=True)
class SaysTokens(HeadConfig):
    """Frozen description of a head that says the tokens of its `codec`, drawn at a `temperature` of 0 or more."""

    codec: Codec | Unfitted
    temperature: float

    @property
    def bounded(self) -> bool:
        """Where the codec's bins cover no more than [-1, 1]."""
        return isinstance(self.codec, Bins) and max(-self.codec.low, self.codec.high) <= 1.0

    def fit(self: Self, chunks: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Self:
        """Return this configuration with a codec that is fitted."""
        return replace(self, codec=fitted(self.codec, chunks))

    def check_temperature(self, head: str) -> None:
        """Raise KinemaError for a negative temperature or none."""
        if not self.temperature >= 0:
            raise KinemaError(f"{head}: temperature {self.temperature} must be at least 0")


class Rows(nn.Module):
    """Chunks (B, H, A) to rows of tokens (B, L) and back; of an elementwise codec without leaving the device."""

    def __init__(self, codec: Codec | Unfitted, *, pred_horizon: int, action_width: int) -> None:
        super().__init__()
        if isinstance(codec, Unfitted):
            raise KinemaError(
                f"{type(codec).__name__}: the tokenizer is not fitted to any chunks yet\n"
                "fix: fit the policy's configuration to training data first, as `kinema train` does"
            )
        self.codec = codec
        self.shape = (pred_horizon, action_width)
        self.length = codec.length(pred_horizon, action_width)
        self.table = CodecTable(codec) if isinstance(codec, Elementwise) else None

    def encode(self, action: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, L) of `action` (B, H, A), and which of them (B, L) are to be learnt.

        What `mask` (B, H) or (B, H, A) leaves out is the token of 0, or what `without_padding` says.
        """
        real = (mask if mask.ndim == 3 else mask[..., None]).expand_as(action)
        if self.table is not None:
            return self.table.encode(torch.where(real, action, 0.0)).flatten(1), real.flatten(1)
        chunks = without_padding(action.detach().cpu().double().numpy(), real.cpu().numpy())
        tokens = torch.from_numpy(self.codec.encode_chunks(chunks)).to(action.device)
        learnt = torch.ones_like(tokens, dtype=torch.bool)
        if self.codec.end is not None:
            ends = tokens == self.codec.end
            learnt = ends.cumsum(-1) - ends.long() == 0  # up to the first end, that included
        return tokens, learnt

    def loss(
        self, error: Tensor, learnt: Tensor, action: Tensor, mask: Tensor, *, beside: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each step (B, H): the mean `error` (B, L) of its tokens.

        Where tokens are of the whole chunk, its real steps share the mean over the chunk's `learnt` tokens. They share
        the errors (B, E) of words `beside` the tokens too; each word of a chunk weighs as much as each token.
        """
        if self.table is None:
            if beside is not None:
                error = torch.cat([error, beside], dim=1)
                learnt = torch.cat([learnt, torch.ones_like(beside, dtype=torch.bool)], dim=1)
            return entry_mean(step_mean(error[:, None], learnt[:, None])[:, 0], mask)
        # What is not finite has no token: the loss is then no number either, instead of that of the last bin.
        each = step_mean(error.view_as(action) + 0.0 * action.detach(), mask)
        if beside is None:
            return each
        tokens, words = learnt.sum(-1, keepdim=True), beside.shape[1]
        steps = mask if mask.ndim == 2 else mask.any(-1)
        return torch.where(steps, (each * tokens + beside.sum(-1, keepdim=True)) / (tokens + words).clamp(min=1), 0.0)

    def drawn(self, step: Step[Memory], memory: Memory, *, temperature: float, rng: Rng, like: Tensor) -> Tensor:
        """Return rows (B, any) of tokens, each drawn from the logits (B, V) that `step` has after those before it.

        `step` takes the last token (B,), the index of the next one and its memory. The rows are those of `like`
        (B, ...), on its device; they stop where all have ended.
        """
        noise = uniform((len(like), self.length), rng, like.device)
        token, tokens = None, []
        ended = torch.zeros(len(noise), dtype=torch.bool, device=noise.device)
        for index in range(self.length):
            logits, memory = step(token, index, memory)
            token = draw(logits, noise[:, index, None], temperature=temperature)[:, 0]
            tokens.append(token)
            if self.codec.end is not None:
                ended = ended | (token == self.codec.end)
                if bool(ended.all()):
                    break
        return torch.stack(tokens, dim=1)

    def decode(self, tokens: Tensor, own: Tensor | None) -> Tensor:
        """Return the chunks (B, H, A) of rows (B, any).

        A row that the codec cannot read becomes zeros, as pi0-FAST does it, and a warning says how many there were
        among those that `own` (B,) asks for, all when None.
        """
        if self.table is not None:
            return self.table.decode(tokens).view(-1, *self.shape)
        horizon, width = self.shape
        chunks, bad = self.codec.decode_chunks(tokens.cpu().numpy(), pred_horizon=horizon, action_width=width)
        chunks[bad] = 0.0
        asked = bad if own is None else bad[own.cpu().numpy()]
        if asked.any():
            said = f"{asked.sum()} of {len(asked)} sampled rows of tokens are no chunk: zeros instead"
            warnings.warn(said, stacklevel=2)
        return torch.from_numpy(chunks).float().to(tokens.device)
