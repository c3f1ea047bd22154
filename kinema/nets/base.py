"""The tensor-side contracts: encoders make tokens, a trunk turns them into a context, a head reads the context.

Letters: B batch, T observed steps, H predicted steps, N tokens, R readout tokens, D width, A action,
S vector, K keypoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.spec import ObservationSpec

KeyValue = tuple[Tensor, Tensor]
"""Keys, with their positions, and values (B, heads, N, head width) of one layer."""

KV = tuple[KeyValue, ...]
"""What attention keeps of tokens: keys and values of each layer."""


@dataclass(frozen=True)
class Tokens:
    """What encoders make."""

    values: Tensor  # (B, N, D)
    mask: Tensor  # (B, N) bool, False where a token is absent
    positions: Tensor | None = None  # (N, D), of an encoder that is `placed`
    ids: Tensor | None = None  # (B, N) int64, words that the trunk embeds in place of the values; -1 for no word

    @classmethod
    def present(cls, values: Tensor, positions: Tensor | None = None) -> Tokens:
        """Return `values` (B, N, D), none of them absent."""
        return cls(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device), positions)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The tokens of one encoder, as a trunk is told of them: `tokens` in all, the same number of each of `steps` steps.

    With `steps` 0 they are of no step, as an instruction. Those that are `placed` bring positions of their own. Of a
    token the first `filled` numbers say something, the rest are 0; None: all of them.
    """

    name: str
    tokens: int
    steps: int = 0
    placed: bool = False
    filled: int | None = None


class OpensLayers(ABC):
    """A part that runs what some of its layers are made of, in place of the layers themselves."""

    @abstractmethod
    def opened(self) -> Sequence[nn.Module]:
        """Return those layers: as they are never called, nothing can be done before and after a call."""


class Extend(ABC):
    """A trunk that can go on after the tokens of a context, for heads that speak its language."""

    vocabulary: int

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Return what the trunk reads for the words `ids` (B, L): (B, L, D)."""

    @abstractmethod
    def extend(self, values: Tensor, past: KV, mask: Tensor, *, causal: bool) -> tuple[Tensor, KV]:
        """Return the hidden (B, L, D) of `values` (B, L, D), and what attention keeps of the past and of them.

        They read what `mask` (B, N) has present of the `past`, and each other: all of them, or if `causal` those before
        and themselves.
        """

    @abstractmethod
    def logits(self, hidden: Tensor, words: Tensor | None = None) -> Tensor:
        """Return the logits (B, L, V) of the word that follows each of `hidden` (B, L, D), of `words` (V,) or all."""


@dataclass(frozen=True)
class Context:
    """What a trunk hands to a head."""

    tokens: Tensor  # (B, N, D)
    mask: Tensor  # (B, N) bool, False where a token is absent
    readout: Mapping[str, Tensor]  # name -> (B, R, D)
    positions: Tensor | None = None  # (N, D), what attention adds to `tokens` used as keys
    kv: KV | None = None  # of each layer of the trunk, for heads with layers beside it (pi0, SmolVLA)
    extend: Extend | None = None  # the trunk, for heads that go on with it (OpenVLA, pi0-FAST)
    private: Tensor | None = None  # (B, N, D), the tokens of the encoder that the head keeps for itself
    posterior: Tensor | None = None  # what a head that conditions the trunk hands to its own loss
    embodiment: Tensor | None = None  # (B,) int64, for heads with parts for several
    own: Tensor | None = None  # (B,) bool, which entries' chunks the head is asked for, where not all


class Encoder(nn.Module, ABC):
    """Turns one part of the sample into `tokens` tokens of the policy's width: see `Group`.

    One with a `vocabulary` gives words, `Tokens.ids` below that number, which the trunk embeds. `padded` are those of
    which some tokens may be absent. `dropout` is the chance that training hides what it sees, all steps at once and
    each of its `cameras` for itself; the network does that, by the mask.
    """

    tokens: int
    vocabulary: int = 0
    padded: bool = False
    dropout: float = 0.0
    cameras: int = 1
    steps: int = 0
    placed: bool = False
    filled: int | None = None

    @abstractmethod
    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the tokens; `condition` is the mean present token (B, D) of the encoder it names."""


class EncoderConfig(ABC):
    """Frozen description of an encoder; `condition` names the encoder that modulates this one, or is None."""

    condition: str | None

    def pinned(self) -> EncoderConfig:
        """Return this configuration with everything it takes from outside fixed by digest; most take nothing."""
        return self

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The keys of the sample that this encoder reads."""

    @abstractmethod
    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> Encoder:
        """Return the module for these observations; raises SpecMismatch when they do not fit."""


class Trunk(nn.Module, ABC):
    """Fuses the tokens of all encoders, to a context of `context_width`; None: as wide as they are."""

    context_width: int | None = None

    @abstractmethod
    def forward(self, tokens: Tokens) -> Context:
        """Return the context for the `tokens` of all groups, one after the other."""


class TrunkConfig(ABC):
    """Frozen description of a trunk."""

    @abstractmethod
    def build(self, groups: Sequence[Group], *, width: int) -> Trunk:
        """Return the module for tokens of `width` numbers in these groups."""


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Return the tokens of all parts, one after the other.

    Where one has positions, those of others are 0; where one has words, the tokens of others are -1, no words.
    """
    positions = None
    if any(part.positions is not None for part in parts):
        none = [part.values.new_zeros(part.values.shape[1:]) for part in parts]
        positions = torch.cat([own if p.positions is None else p.positions for p, own in zip(parts, none, strict=True)])
    values, mask = torch.cat([part.values for part in parts], dim=1), torch.cat([part.mask for part in parts], dim=1)
    ids = None
    if any(part.ids is not None for part in parts):
        wordless = [part.mask.new_full(part.mask.shape, -1, dtype=torch.int64) for part in parts]
        ids = torch.cat([own if p.ids is None else p.ids for p, own in zip(parts, wordless, strict=True)], dim=1)
    return Tokens(values, mask, positions, ids)


def mean_token(tokens: Tokens) -> Tensor:
    """Return the mean (B, D) of the present tokens, 0 where there is none."""
    present = tokens.mask[..., None]
    return (tokens.values * present).sum(1) / present.sum(1).clamp(min=1)
