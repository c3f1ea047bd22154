"""A policy is data: encoders, trunk, head, transforms and horizons, composed here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kinema.core.errors import KinemaError, SpecMismatch, nearest
from kinema.core.policy import Chunk, ChunkSampler, Guide, Observation
from kinema.core.rng import seed_of
from kinema.core.spec import ACTION, RobotSpec, check_observation
from kinema.core.transform import Chain, Statistics, Transform
from kinema.heads.base import HeadConfig, check_scale, guidable
from kinema.nets.base import EncoderConfig, TrunkConfig

if TYPE_CHECKING:
    from kinema.policies.network import Network


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
    def widths(self) -> Mapping[str, int]:
        """How wide the tokens of each encoder are."""
        own = self.head.private_width or self.width
        return {name: own if name == self.head.private else self.width for name in self.encoders}

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of an observation that the policy needs."""
        keys = [key for encoder in self.encoders.values() for key in encoder.reads]
        return tuple(dict.fromkeys([*keys, *(key for transform in self.transforms for key in transform.reads)]))

    def needs(self, spec: RobotSpec) -> RobotSpec:
        """Return the part of `spec` that this policy uses; a missing camera or vector is an error."""
        return replace(spec, observation=spec.observation.select(self.reads))

    def fit(
        self,
        measure: Callable[[Chain], Statistics],
        chunks: Callable[[Chain], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> PolicyConfig:
        """Return the configuration with what it takes from the training data, and outside weights pinned.

        `measure` returns the statistics of training samples after the transforms that it is given: each transform is
        fitted to what those before it leave. `chunks` returns actions (B, H, A) and their mask after all transforms,
        for heads that are fitted too.
        """
        done: tuple[Transform, ...] = ()
        for transform in self.transforms:
            done = (*done, transform.fit(measure(Chain(done))))
        pinned = {name: encoder.pinned() for name, encoder in self.encoders.items()}
        head = self.head if chunks is None else self.head.fit(partial(chunks, Chain(done)))
        return replace(self, transforms=done, encoders=pinned, head=head)


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


def _batch_size(observation: Observation) -> int:
    for value in observation.values():
        return len(value)
    raise SpecMismatch("the observation is empty")


def to_tensor(value: Any, device: torch.device) -> Any:
    """Return arrays as tensors on `device`, texts as they are."""
    return torch.from_numpy(np.ascontiguousarray(value)).to(device) if isinstance(value, np.ndarray) else value
