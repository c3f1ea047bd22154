"""The trained part of a policy: encoders, trunk and head put together as a configuration says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from kinema.core.config import to_data
from kinema.core.errors import KinemaError, nearest
from kinema.core.spec import ACTION, EMBODIMENT, RobotSpec
from kinema.core.transform import Chain
from kinema.heads.base import ConditioningConfig, ConditionsTrunk, PicksByEmbodiment, no_words
from kinema.nets.base import Context, Encoder, Extend, Group, Tokens, Trunk, joined, mean_token
from kinema.nets.noise import Rng, uniform
from kinema.policies.base import PolicyConfig


class Network(nn.Module):
    """The trained part: samples in transformed space to losses and chunks."""

    def __init__(self, config: PolicyConfig, spec: RobotSpec) -> None:
        super().__init__()
        self.conditions = {name: encoder.condition for name, encoder in config.encoders.items()}
        Chain(config.transforms).check(spec)
        seen = Chain(config.transforms).observed(spec.observation)
        self.private = _private(config)
        built = {
            name: encoder.build(seen, obs_horizon=config.obs_horizon, width=config.widths[name])
            for name, encoder in config.encoders.items()
        }
        self.encoders = nn.ModuleDict(built)
        self.embodiment = spec.embodiment
        groups = [
            Group(name=name, tokens=e.tokens, steps=e.steps, placed=e.placed, filled=e.filled)
            for name, e in built.items()
            if name != self.private
        ]
        if isinstance(config.head, ConditioningConfig):
            groups.insert(0, Group(name="", tokens=1))
        self.trunk = config.trunk.build(groups, width=config.width)
        if config.head.goes_on and not isinstance(self.trunk, Extend):
            raise no_words(type(config.head).__name__)
        _check_words(built, self.conditions, self.trunk)
        if isinstance(self.trunk, Extend):
            config.head.check_words(self.trunk.vocabulary, max(encoder.vocabulary for encoder in built.values()))
        if self.private is not None:
            _check_private(self.private, built[self.private])
        action_width = Chain(config.transforms).action_width(spec.action.width)
        width = self.trunk.context_width or config.width
        self.head = config.head.build(action_width=action_width, pred_horizon=config.pred_horizon, width=width)

    def context(
        self, sample: Mapping[str, Any], rng: Rng, *, action: Tensor | None = None, mask: Tensor | None = None
    ) -> Context:
        """Return what the head reads, for a batch of samples; `action` and `mask` are given in training."""
        tokens: dict[str, Tokens] = {}
        for name, encoder in self.encoders.items():
            condition = self.conditions[name]
            made = encoder(sample, None if condition is None else mean_token(tokens[condition]))
            tokens[name] = _hidden(made, cast("Encoder", encoder), rng) if self.training else made
        batch, posterior = len(next(iter(tokens.values())).values), None
        seen = None if self.private is None else tokens.pop(self.private).values
        if isinstance(self.head, ConditionsTrunk):
            if action is None or mask is None:
                own = self.head.prior(batch, rng=rng)
            else:
                own, posterior = self.head.condition(seen, action, mask, rng=rng)
            tokens = {"": Tokens.present(own), **tokens}
        context = replace(self.trunk(joined(list(tokens.values()))), private=seen)
        if isinstance(self.head, PicksByEmbodiment):
            names = sample.get(EMBODIMENT, [self.embodiment] * batch)
            return replace(context, embodiment=self.head.pick(names).to(context.tokens.device))
        return replace(context, posterior=posterior)

    def loss(self, batch: Mapping[str, Any], rng: Rng) -> Tensor:
        """Return the head's loss of each step (B, H); padding carries 0, padded components count for nothing."""
        mask, components = batch["mask"], batch.get(f"components.{ACTION}")
        if components is not None:
            mask = mask[..., None] & components[:, None]
        context = self.context(batch, rng, action=batch[ACTION], mask=mask)
        return self.head.loss(context, batch[ACTION], mask, rng=rng)


def _private(config: PolicyConfig) -> str | None:
    """Return the encoder whose tokens go to the head alone, if the head names one."""
    name = config.head.private
    if name is not None and name not in config.encoders:
        raise KinemaError(
            f"the head reads encoder {name!r}, which is not there{nearest(name, config.encoders)}; "
            f"encoders: {', '.join(config.encoders) or 'none'}"
        )
    return name


def _hidden(tokens: Tokens, encoder: Encoder, rng: Rng) -> Tokens:
    """Return `tokens` less those of what training hides: a camera with a chance of `dropout`, but never all of many."""
    if not encoder.dropout:
        return tokens
    noise = uniform((len(tokens.mask), encoder.cameras), rng, tokens.mask.device)
    shown = noise >= encoder.dropout
    if encoder.cameras > 1:
        shown = shown | (noise == noise.amax(1, keepdim=True))
    mask = tokens.mask.view(len(noise), max(1, encoder.steps), encoder.cameras, -1) & shown[:, None, :, None]
    return replace(tokens, mask=mask.flatten(1))


def _check_private(name: str, encoder: Encoder) -> None:
    """Raise KinemaError for an encoder of the head alone whose tokens are words, or may be absent."""
    if encoder.vocabulary or encoder.padded or encoder.dropout:
        said = "gives words, which only a trunk embeds" if encoder.vocabulary else "gives tokens that may be absent"
        raise KinemaError(
            f"the head keeps encoder {name!r} for itself, but it {said}\n"
            "fix: an encoder whose tokens are always there, such as proprioception without dropout"
        )


def _check_words(encoders: Mapping[str, Encoder], conditions: Mapping[str, str | None], trunk: Trunk) -> None:
    """Raise KinemaError where words would be embedded by nobody: only a trunk that is `Extend` reads words."""
    known = trunk.vocabulary if isinstance(trunk, Extend) else 0
    for name, encoder in encoders.items():
        if encoder.vocabulary > known:
            raise KinemaError(
                f"encoder {name!r} gives words of a vocabulary of {encoder.vocabulary}, {type(trunk).__name__} knows "
                f"{known or 'none'}"
            )
        if encoder.vocabulary and name in conditions.values():
            raise KinemaError(f"encoder {name!r} gives words for the trunk to embed, so it can be no condition")


def all_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return all weights of the parts of `network`; with adapters, its own state dict leaves out those of the base."""
    parts = [part.state_dict(prefix=f"{name}.") for name, part in network.named_children()]
    return {**network.state_dict(), **{name: tensor for part in parts for name, tensor in part.items()}}


def fingerprint(config: PolicyConfig, spec: RobotSpec, network: nn.Module) -> str:
    """Return the sha256 of configuration, statistics, interface and all weights: the identity of a trained policy."""
    digest = hashlib.sha256(json.dumps(to_data((config, spec)), sort_keys=True).encode())
    for name, tensor in sorted(all_weights(network).items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
