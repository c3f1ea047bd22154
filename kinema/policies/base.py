"""A policy is data: encoders, trunk, head, transforms and horizons, composed here and nowhere else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinema.core.config import to_data
from kinema.core.errors import KinemaError, SpecMismatch, nearest
from kinema.core.policy import Chunk, ChunkSampler, Guide, Observation
from kinema.core.rng import seed_of
from kinema.core.spec import ACTION, EMBODIMENT, RobotSpec, check_observation
from kinema.core.transform import Chain, Statistics, Transform
from kinema.heads.base import ConditioningConfig, ConditionsTrunk, HeadConfig, PicksByEmbodiment, check_scale, guidable
from kinema.nets.base import Context, EncoderConfig, Rng, TrunkConfig


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """A composition. Encoders run in order; one may be modulated by an earlier one, which it names as its condition.

    `obs_horizon` steps are observed, `pred_horizon` predicted, and `exec_horizon` of those executed before replanning.
    """

    encoders: Mapping[str, EncoderConfig]
    trunk: TrunkConfig
    head: HeadConfig
    transforms: tuple[Transform, ...] = ()
    width: int = 256
    obs_horizon: int = 1
    pred_horizon: int = 16
    exec_horizon: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.exec_horizon <= self.pred_horizon or self.obs_horizon < 1:
            raise KinemaError(
                f"horizons: obs {self.obs_horizon}, pred {self.pred_horizon}, exec {self.exec_horizon}; "
                "expected obs >= 1 and 1 <= exec <= pred"
            )
        seen: list[str] = []
        for name, encoder in self.encoders.items():
            if encoder.condition is not None and encoder.condition not in seen:
                raise KinemaError(
                    f"encoder {name!r} is conditioned on {encoder.condition!r}, which is not an earlier encoder"
                    f"{nearest(encoder.condition, seen)}; earlier: {', '.join(seen) or 'none'}"
                )
            seen.append(name)
        check_scale(self.head, self.transforms)

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of an observation that the policy needs."""
        keys = [key for encoder in self.encoders.values() for key in encoder.reads]
        return tuple(dict.fromkeys([*keys, *(key for transform in self.transforms for key in transform.reads)]))

    def needs(self, spec: RobotSpec) -> RobotSpec:
        """Return the part of `spec` that this policy uses; a missing camera or vector is an error."""
        return replace(spec, observation=spec.observation.select(self.reads))

    def fit(self, measure: Callable[[Chain], Statistics]) -> PolicyConfig:
        """Return the configuration with the transforms' statistics filled in and outside weights pinned.

        `measure` returns the statistics of training samples after the transforms that it is given: each transform is
        fitted to what those before it leave.
        """
        done: tuple[Transform, ...] = ()
        for transform in self.transforms:
            done = (*done, transform.fit(measure(Chain(done))))
        pinned = {name: encoder.pinned() for name, encoder in self.encoders.items()}
        return replace(self, transforms=done, encoders=pinned)


class Network(nn.Module):
    """The trained part: samples in transformed space to losses and chunks."""

    def __init__(self, config: PolicyConfig, spec: RobotSpec) -> None:
        super().__init__()
        self.conditions = {name: encoder.condition for name, encoder in config.encoders.items()}
        Chain(config.transforms).check(spec)
        seen = Chain(config.transforms).observed(spec.observation)
        built = {
            name: encoder.build(seen, obs_horizon=config.obs_horizon, width=config.width)
            for name, encoder in config.encoders.items()
        }
        self.encoders = nn.ModuleDict(built)
        self.embodiment = spec.embodiment
        self.private = _private(config)
        tokens = sum(encoder.tokens for name, encoder in built.items() if name != self.private)
        tokens += isinstance(config.head, ConditioningConfig)
        self.trunk = config.trunk.build(tokens=tokens, width=config.width)
        sizes = {"pred_horizon": config.pred_horizon, "width": config.width}
        self.head = config.head.build(action_width=spec.action.width, **sizes)

    def context(
        self, sample: Mapping[str, Any], rng: Rng, *, action: Tensor | None = None, mask: Tensor | None = None
    ) -> Context:
        """Return what the head reads, for a batch of samples; `action` and `mask` are given in training."""
        tokens: dict[str, Tensor] = {}
        for name, encoder in self.encoders.items():
            condition = self.conditions[name]
            given = None if condition is None else tokens[condition].mean(1)
            tokens[name] = encoder(sample, given)
        batch, posterior = len(next(iter(tokens.values()))), None
        seen = None if self.private is None else tokens.pop(self.private)
        if isinstance(self.head, ConditionsTrunk):
            if action is None or mask is None:
                own = self.head.prior(batch, rng=rng)
            else:
                own, posterior = self.head.condition(seen, action, mask, rng=rng)
            tokens = {"": own, **tokens}
        joined = torch.cat(list(tokens.values()), dim=1)
        context = self.trunk(joined, torch.ones(joined.shape[:2], dtype=torch.bool, device=joined.device))
        if isinstance(self.head, PicksByEmbodiment):
            names = sample.get(EMBODIMENT, [self.embodiment] * batch)
            return replace(context, embodiment=self.head.pick(names).to(joined.device))
        return replace(context, posterior=posterior)

    def loss(self, batch: Mapping[str, Any], rng: torch.Generator) -> Tensor:
        """Return the head's loss of each step (B, H); padding carries 0, padded components count for nothing."""
        mask, components = batch["mask"], batch.get(f"components.{ACTION}")
        if components is not None:
            mask = mask[..., None] & components[:, None]
        context = self.context(batch, rng, action=batch[ACTION], mask=mask)
        return self.head.loss(context, batch[ACTION], mask, rng=rng)


class ComposedPolicy(ChunkSampler):
    """A network between its transforms: raw observations in, actions in robot units out, within the action bounds."""

    def __init__(self, config: PolicyConfig, spec: RobotSpec, network: Network, *, device: str = "cpu") -> None:
        self.config = config
        self.spec = config.needs(spec)
        self.obs_horizon, self.pred_horizon = config.obs_horizon, config.pred_horizon
        self.exec_horizon = config.exec_horizon
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self._chain = Chain(config.transforms)
        self._generators: dict[int, torch.Generator] = {}

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        """Give the entries `which` the noise of a new episode."""
        entries = list(which) if which is not None else list(self._generators)
        if seeds is not None and len(seeds) != len(entries):
            raise KinemaError(f"reset: {len(seeds)} seeds for {len(entries)} batch entries")
        for position, entry in enumerate(entries):
            seed = seeds[position] if seeds is not None else seed_of("policy", entry)
            self._generators[entry] = torch.Generator().manual_seed(seed)

    def act(self, observation: Observation) -> Chunk:
        """Return chunks (B, H, A) in the units of `spec.action`, clipped to its bounds."""
        batch = _batch_size(observation)
        for entry in range(batch):
            if entry not in self._generators:
                self.reset([entry])
        action = self._sample(observation, [self._generators[entry] for entry in range(batch)], None)
        return Chunk(action=action, exec_horizon=self.exec_horizon)

    def draw(self, observation: Observation, *, seeds: Sequence[int], guide: Guide | None = None) -> np.ndarray:
        """Return what `act` would for these seeds; only a head that is `AcceptsGuide` follows a guide."""
        if len(seeds) != _batch_size(observation):
            raise KinemaError(f"draw: {len(seeds)} seeds for {_batch_size(observation)} batch entries")
        return self._sample(observation, [torch.Generator().manual_seed(seed) for seed in seeds], guide)

    def check_guide(self, method: str, held: int) -> None:
        """Raise KinemaError unless the head can follow such guides."""
        guidable(self.network.head).check_guide(method, held)

    def _sample(self, observation: Observation, rng: Sequence[torch.Generator], guide: Guide | None) -> np.ndarray:
        check_observation(observation, self.spec.observation, batch=len(rng), obs_horizon=self.obs_horizon)
        # The guide goes through the transforms as an action does: it is seen from the new observation.
        given = observation if guide is None else {**observation, ACTION: guide.action}
        sample, memo = self._chain.forward(given)
        tensors = {key: to_tensor(value, self.device) for key, value in sample.items()}
        with torch.inference_mode() if guide is None else torch.no_grad():
            context = self.network.context(tensors, rng)
            if guide is None:
                drawn = self.network.head.sample(context, rng=rng)
            else:
                self.check_guide(guide.method, int((guide.weight == 1).sum()))
                guide = replace(guide, action=tensors[ACTION], weight=to_tensor(guide.weight, self.device))
                drawn = guidable(self.network.head).sample_guided(context, guide, rng=rng)
        action = self._chain.inverse(drawn.cpu().numpy(), memo)
        return np.clip(action, self.spec.action.low, self.spec.action.high).astype(np.float32)


def _private(config: PolicyConfig) -> str | None:
    """Return the encoder whose tokens go to the head alone, if the head names one."""
    name = config.head.private if isinstance(config.head, ConditioningConfig) else None
    if name is not None and name not in config.encoders:
        raise KinemaError(
            f"the head reads encoder {name!r}, which is not there{nearest(name, config.encoders)}; "
            f"encoders: {', '.join(config.encoders) or 'none'}"
        )
    return name


def _batch_size(observation: Observation) -> int:
    for value in observation.values():
        return len(value)
    raise SpecMismatch("the observation is empty")


def to_tensor(value: Any, device: torch.device) -> Any:
    """Return arrays as tensors on `device`, texts as they are."""
    return torch.from_numpy(np.ascontiguousarray(value)).to(device) if isinstance(value, np.ndarray) else value


def fingerprint(config: PolicyConfig, spec: RobotSpec, network: nn.Module) -> str:
    """Return the sha256 of configuration, statistics, interface and all weights: the identity of a trained policy."""
    digest = hashlib.sha256(json.dumps(to_data((config, spec)), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
