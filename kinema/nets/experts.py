"""What action experts share: their tokens, and how these stand after the tokens of a trunk.

The trunk computes its keys and values once; an expert reads them at every denoising step (Black et al. 2024). What an
expert makes of them alone (projected keys, the state's tokens) it makes at each step again: it keeps nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.base import KV, Context
from kinema.nets.blocks import sinusoidal
from kinema.nets.language.sizes import Decoder
from kinema.nets.trunks.language_model import LanguageModelTrunk


def check_wordless(size: Decoder) -> None:
    """Raise KinemaError when an expert of `size` would have words, which it can neither read nor say."""
    if size.vocabulary:
        raise KinemaError(
            f"an action expert has no words, but its size has a vocabulary of {size.vocabulary}\nfix: vocabulary=0"
        )


class ActionTokens(nn.Module):
    """Noisy actions and their time become one token a step; `leave` makes actions of what layers make of them."""

    def __init__(self, action_width: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(action_width, width)
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.leave = nn.Linear(width, action_width)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return tokens (B, H, D) for chunks `x` (B, H, A) at times `t` (B,); the published time is 1 for noise."""
        actions = self.enter(x.to(self.enter.weight.dtype))
        time = sinusoidal(1.0 - t, actions.shape[-1]).to(actions.dtype)[:, None]
        mixed: Tensor = self.mix(torch.cat([actions, time.expand_as(actions)], dim=-1))
        # As wide as the trunk's tokens: under autocast the layers would add up in bfloat16 from here on.
        return mixed.to(self.enter.weight.dtype)


def keys_and_values(context: Context, size: Decoder) -> KV:
    """Return what the trunk keeps; raises KinemaError when it does not fit layers of `size`."""
    kv, want = context.kv, (size.layers, size.kv_heads, size.head_width)
    if not kv:
        raise KinemaError("an action expert needs a trunk that keeps its keys and values, such as language-model")
    have = (len(kv), *kv[0][0].shape[1::2])
    if have != want:
        raise KinemaError(
            "an action expert of {} layers with {} heads of keys, {} wide, cannot read beside "
            "a trunk of {} layers with {}, {} wide; make them equal".format(*want, *have)
        )
    theta = context.extend.model.size.rope_theta if isinstance(context.extend, LanguageModelTrunk) else size.rope_theta
    if theta != size.rope_theta:
        raise KinemaError(
            f"an action expert of rope_theta {size.rope_theta:g} cannot read keys that a trunk of rope_theta {theta:g} "
            "has turned; make them equal"
        )
    return kv
