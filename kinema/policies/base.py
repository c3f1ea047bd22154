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
from kinema.core.policy import Chunk, Observation, Policy
from kinema.core.rng import seed_of
from kinema.core.spec import ACTION, RobotSpec, check_observation
from kinema.core.transform import Chain, Statistics, Transform
from kinema.heads.base import HeadConfig
from kinema.nets.base import Context, EncoderConfig, TrunkConfig


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
        return replace(
            self, transforms=done, encoders={name: encoder.pinned() for name, encoder in self.encoders.items()}
        )


class Network(nn.Module):
    """The trained part: samples in transformed space to losses and chunks."""

    def __init__(self, config: PolicyConfig, spec: RobotSpec) -> None:
        super().__init__()
        self.conditions = {name: encoder.condition for name, encoder in config.encoders.items()}
        built = {
            name: encoder.build(spec.observation, obs_horizon=config.obs_horizon, width=config.width)
            for name, encoder in config.encoders.items()
        }
        self.encoders = nn.ModuleDict(built)
        self.trunk = config.trunk.build(tokens=sum(encoder.tokens for encoder in built.values()), width=config.width)
        self.head = config.head.build(
            action_width=spec.action.width, pred_horizon=config.pred_horizon, width=config.width
        )

    def context(self, sample: Mapping[str, Any]) -> Context:
        """Return what the head reads, for a batch of samples."""
        tokens: dict[str, Tensor] = {}
        for name, encoder in self.encoders.items():
            condition = self.conditions[name]
            given = None if condition is None else tokens[condition].mean(1)
            tokens[name] = encoder(sample, given)
        joined = torch.cat(list(tokens.values()), dim=1)
        return self.trunk(joined, torch.ones(joined.shape[:2], dtype=torch.bool, device=joined.device))

    def loss(self, batch: Mapping[str, Any], rng: torch.Generator) -> Tensor:
        """Return the head's loss of each step (B, H); padding carries 0, padded components count for nothing."""
        mask, components = batch["mask"], batch.get(f"components.{ACTION}")
        if components is not None:
            mask = mask[..., None] & components[:, None]
        return self.head.loss(self.context(batch), batch[ACTION], mask, rng=rng)


class ComposedPolicy(Policy):
    """A network between its transforms: raw observations in, actions in robot units out, within the action bounds."""

    def __init__(self, config: PolicyConfig, spec: RobotSpec, network: Network, *, device: str = "cpu") -> None:
        self.config = config
        self.spec = config.needs(spec)
        self.obs_horizon = config.obs_horizon
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

    @torch.inference_mode()
    def act(self, observation: Observation) -> Chunk:
        """Return chunks (B, H, A) in the units of `spec.action`, clipped to its bounds."""
        batch = _batch_size(observation)
        check_observation(observation, self.spec.observation, batch=batch, obs_horizon=self.obs_horizon)
        for entry in range(batch):
            if entry not in self._generators:
                self.reset([entry])
        sample, memo = self._chain.forward(observation)
        tensors = {key: to_tensor(value, self.device) for key, value in sample.items()}
        rng = [self._generators[entry] for entry in range(batch)]
        action = self.network.head.sample(self.network.context(tensors), rng=rng).cpu().numpy()
        action = self._chain.inverse(action, memo)
        bounded = np.clip(action, self.spec.action.low, self.spec.action.high).astype(np.float32)
        return Chunk(action=bounded, exec_horizon=self.config.exec_horizon)


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
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
