"""Chunks as sentences: token after token, each given those before it (Brohan et al. 2023, "RT-2"; Kim et al. 2024).

What belongs together is drawn together, unlike in `kinema.heads.categorical`. The order is that of the codec: of an
elementwise one all components of the first step, then all of the second; of FAST its own. The head has its own small
decoder, which reads the context's tokens.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kinema.actions.bins import Bins
from kinema.actions.codec import Codec, Elementwise, without_padding
from kinema.core.errors import KinemaError
from kinema.heads.base import Head, HeadConfig, entry_mean, step_mean
from kinema.nets.base import Context, Rng, draw, uniform
from kinema.nets.causal_decoder import CausalDecoder
from kinema.nets.codec_table import CodecTable


@dataclass(frozen=True, kw_only=True)
class Autoregressive(HeadConfig):
    """`codec` says what the tokens are; `temperature` 0 acts with the most likely token at every place."""

    codec: Codec = Bins(convention="openvla")  # noqa: RUF009 - frozen
    temperature: float = 1.0
    blocks: int = 2
    heads: int = 4

    @property
    def bounded(self) -> bool:
        """Where the codec's bins cover no more than [-1, 1]."""
        return isinstance(self.codec, Bins) and max(-self.codec.low, self.codec.high) <= 1.0

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> AutoregressiveHead:
        """Return the head."""
        if not self.temperature >= 0:
            raise KinemaError(f"autoregressive: temperature {self.temperature} must be at least 0")
        return AutoregressiveHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class AutoregressiveHead(Head):
    """The context's tokens (B, N, D) to rows of action tokens (B, L), and these to chunks (B, H, A)."""

    def __init__(self, config: Autoregressive, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (pred_horizon, action_width)
        self.length = config.codec.length(pred_horizon, action_width)
        self.table = CodecTable(config.codec) if isinstance(config.codec, Elementwise) else None
        self.decoder = CausalDecoder(
            vocabulary=config.codec.size, length=self.length, width=width, blocks=config.blocks, heads=config.heads
        )

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: torch.Generator) -> Tensor:
        """Return the mean cross-entropy of each step's tokens, those before them given.

        Where tokens are of the whole chunk, its real steps share the mean over the chunk's tokens.
        """
        real = (mask if mask.ndim == 3 else mask[..., None]).expand_as(action)
        tokens, learnt = self._encode(action, real)
        logits = self.decoder(tokens, learnt, context)
        error = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        if self.table is not None:
            # What is not finite has no token: the loss is then no number either, instead of that of the last bin.
            return step_mean(error.view_as(action) + 0.0 * action.detach(), mask)
        return entry_mean(step_mean(error[:, None], learnt[:, None])[:, 0], mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks of tokens drawn one after the other.

        A row that the codec cannot read becomes zeros, as pi0-FAST does it, and a warning says how many there were.
        """
        noise = uniform((len(context.tokens), self.length), rng, context.tokens.device)
        memory, token, drawn = self.decoder.remember(context), None, []
        ended = torch.zeros(len(noise), dtype=torch.bool, device=noise.device)
        for index in range(self.length):
            logits, memory = self.decoder.step(token, index, memory)
            token = draw(logits, noise[:, index, None], temperature=self.config.temperature)[:, 0]
            drawn.append(token)
            if self.config.codec.end is not None:
                ended = ended | (token == self.config.codec.end)
                if bool(ended.all()):
                    break
        return self._decode(torch.stack(drawn, dim=1), context.own)

    def _encode(self, action: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, L) of what is `real` (B, H, A), and which of them (B, L) are to be learnt."""
        if self.table is not None:
            return self.table.encode(torch.where(real, action, 0.0)).flatten(1), real.flatten(1)
        chunks = without_padding(action.detach().cpu().double().numpy(), real.cpu().numpy())
        tokens = torch.from_numpy(self.config.codec.encode_chunks(chunks)).to(action.device)
        if self.config.codec.end is None:
            return tokens, torch.ones_like(tokens, dtype=torch.bool)
        ends = tokens == self.config.codec.end
        return tokens, ends.cumsum(-1) - ends.long() == 0  # up to the first end, that included

    def _decode(self, tokens: Tensor, own: Tensor | None) -> Tensor:
        if self.table is not None:
            return self.table.decode(tokens).view(-1, *self.shape)
        horizon, width = self.shape
        chunks, bad = self.config.codec.decode_chunks(tokens.cpu().numpy(), pred_horizon=horizon, action_width=width)
        chunks[bad] = 0.0
        asked = bad if own is None else bad[own.cpu().numpy()]
        if asked.any():
            said = f"{asked.sum()} of {len(asked)} sampled rows of tokens are no chunk: zeros instead"
            warnings.warn(said, stacklevel=2)
        return torch.from_numpy(chunks).float().to(tokens.device)
