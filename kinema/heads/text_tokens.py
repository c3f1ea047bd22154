"""Chunks in the trunk's own language: each action token is a word of the vocabulary that text has no use for.

RT-2 (Brohan et al. 2023), OpenVLA (Kim et al. 2024, section 3.2) and pi0-FAST (Pertsch et al. 2025). The head has no
weights: the trunk goes on after the prompt, trained by the cross-entropy of each word given those before it. When
acting only words that the codec knows can follow, and what attention kept of earlier words is not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kinema.actions.bins import Bins
from kinema.actions.codec import Codec, Unfitted, vocabulary_ids
from kinema.core.errors import KinemaError
from kinema.heads._rows import Rows, SaysTokens
from kinema.heads.base import Head, going_on
from kinema.nets.base import KV, Context, Extend
from kinema.nets.noise import Rng


@dataclass(frozen=True, kw_only=True)
class TextTokens(SaysTokens):
    """Token k of `codec` is the word `vocabulary` - 1 - `reserved` - k; `vocabulary` None is all the trunk has.

    With None these words must be none of a prompt's; with a `vocabulary` it may lose its rarest, as OpenVLA has it.
    The words `before` open every answer: they are given when acting, and learnt if `learns_before`. The words `after`
    close it and are learnt; the first of them stands for the codec's `end`, if it has one. OpenVLA: the blank 29871 and
    the end of the text, 2, of Llama-2's 32000 words. pi0-FAST: "Action: ", then "|" and the end of the text.
    `temperature` 0 acts with the most likely word at every place, as both do.
    """

    codec: Codec | Unfitted = Bins(convention="openvla")  # noqa: RUF009 - frozen
    vocabulary: int | None = None
    reserved: int = 0
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    learns_before: bool = False
    temperature: float = 0.0

    @property
    def goes_on(self) -> bool:
        """Always."""
        return True

    def check_words(self, known: int, text: int = 0) -> None:
        """Raise KinemaError unless the trunk has all words of an answer, each with one meaning."""
        if isinstance(self.codec, Unfitted):
            return
        tokens = np.arange(self.codec.size)[::-1]
        said = tokens if self.codec.end is None else tokens[tokens != self.codec.end]
        own = vocabulary_ids(said, self.vocabulary or known, reserved=self.reserved).tolist()
        fixed = (*self.before, *self.after)
        if not all(0 <= word < known for word in (own[0], own[-1], *fixed)):
            raise KinemaError(
                f"text_tokens: words {own[0]} to {own[-1]} for {len(own)} tokens, and the words {list(fixed)}; "
                f"the trunk has the words 0 to {known - 1}"
            )
        both = sorted(set(own) & set(fixed))
        if both:
            raise KinemaError(f"text_tokens: the words {both} are before or after the action and also tokens of it")
        if self.vocabulary is None and own[0] < text:
            raise KinemaError(
                f"text_tokens: words {own[0]} to {own[-1]} for {len(own)} tokens; the prompt uses those below {text}"
                f"\nfix: a trunk with {text - own[0]} words more, or `vocabulary` {known} to take those of the prompt"
            )

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> TextTokensHead:
        """Return the head."""
        self.check_temperature("text_tokens")
        rows = Rows(self.codec, pred_horizon=pred_horizon, action_width=action_width)
        if rows.codec.end is not None and not self.after:
            raise KinemaError(
                f"text_tokens: rows of {type(self.codec).__name__} end, and no word says so\n"
                "fix: name the words `after`, the one that ends a row first"
            )
        return TextTokensHead(self, rows)


@dataclass(frozen=True)
class _Said:
    """The answer so far: what attention keeps of prompt and answer, which of it is present, and its last hidden."""

    kv: KV
    mask: Tensor  # (B, N) bool
    hidden: Tensor  # (B, 1, D)


class TextTokensHead(Head):
    """What the trunk says after a context, to chunks (B, H, A)."""

    offsets: Tensor

    def __init__(self, config: TextTokens, rows: Rows) -> None:
        super().__init__()
        self.config = config
        self.rows = rows
        offsets = vocabulary_ids(np.arange(rows.codec.size), 0, reserved=config.reserved)
        self.register_buffer("offsets", torch.from_numpy(offsets), persistent=False)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the mean cross-entropy of each step's words, those before them given, over the whole vocabulary.

        Words that belong to no step (all of FAST, and those `after`) are shared by the real steps of the chunk.
        """
        extend, past = going_on(context, self)
        tokens, real = self.rows.encode(action, mask)
        words, learnt = self._words(tokens, real, self._vocabulary(extend))
        hidden, _ = extend.extend(extend.embed(words[:, :-1]), past, context.mask, causal=True)
        logits = extend.logits(torch.cat([context.readout["action"], hidden], dim=1)).float()
        error = F.cross_entropy(logits.transpose(1, 2), words, reduction="none")
        first = len(self.config.before)
        last = words.shape[1] if self.rows.codec.end is not None else first + self.rows.length
        beside = [error[:, : first if self.config.learns_before else 0], error[:, last:]]
        return self.rows.loss(
            error[:, first:last], learnt[:, first:last], action, mask, beside=torch.cat(beside, dim=1)
        )

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks of words drawn one after the other, none of them one that the codec does not know.

        A row that the codec cannot read becomes zeros, as pi0-FAST does it, and a warning says how many there were.
        """
        extend, past = going_on(context, self)
        vocabulary = self._vocabulary(extend)

        def step(before: Tensor | None, index: int, said: _Said) -> tuple[Tensor, _Said]:
            said = said if before is None else _heard(extend, vocabulary[before][:, None], said)
            return extend.logits(said.hidden, vocabulary)[:, 0].float(), said

        said = _Said(past, context.mask, context.readout["action"])
        if self.config.before:
            opening = torch.tensor(self.config.before, device=vocabulary.device)
            said = _heard(extend, opening.expand(len(context.mask), -1), said)
        tokens = self.rows.drawn(step, said, temperature=self.config.temperature, rng=rng, like=context.tokens)
        return self.rows.decode(tokens, context.own)

    def _vocabulary(self, extend: Extend) -> Tensor:
        """Return the words (V,) of the codec's tokens; raises KinemaError where the trunk does not have them."""
        self.config.check_words(extend.vocabulary)
        words = (self.config.vocabulary or extend.vocabulary) + self.offsets
        if self.rows.codec.end is not None:
            words[self.rows.codec.end] = self.config.after[0]
        return words

    def _words(self, tokens: Tensor, real: Tensor, vocabulary: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answers (B, L) to `tokens` (B, l) of which `real` (B, l) are learnt, and which words of them are.

        Words `after` follow at once where a row ends.
        """
        codec, length = self.rows.codec, tokens.shape[1]
        opening, closing = (tokens.new_tensor(words) for words in (self.config.before, self.config.after))
        if codec.end is None:
            ends = tokens.new_full((len(tokens), 1), length)
            extra = len(closing)
        else:
            ends = (tokens == codec.end).long().argmax(-1, keepdim=True)
            extra = len(closing) - 1
        words, learnt = F.pad(vocabulary[tokens], (0, extra)), F.pad(real, (0, extra))
        if len(closing):
            behind = torch.arange(length + extra, device=tokens.device) - ends
            words = torch.where(behind < 0, words, closing[behind.clamp(0, len(closing) - 1)])
            learnt = torch.where(behind < 0, learnt, behind < len(closing))
        first = torch.full_like(words[:, :1], self.config.learns_before, dtype=torch.bool).expand(-1, len(opening))
        return torch.cat([opening.expand(len(words), -1), words], dim=1), torch.cat([first, learnt], dim=1)


def _heard(extend: Extend, words: Tensor, said: _Said) -> _Said:
    """Return the answer after further `words` (B, L)."""
    hidden, kv = extend.extend(extend.embed(words), said.kv, said.mask, causal=True)
    present = torch.ones(words.shape, dtype=torch.bool, device=said.mask.device)
    return _Said(kv, torch.cat([said.mask, present], dim=1), hidden[:, -1:])
