"""Several adapters on one base, in memory once and switched while acting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinema.core import config
from kinema.core.errors import CheckpointError, KinemaError, unknown
from kinema.core.policy import Chunk, Observation, Policy
from kinema.core.transform import Chain
from kinema.deploy.load import StoredPolicy, load_policy, load_stored, weights_file
from kinema.nets.adapters import STORED, adapters, add, use
from kinema.nets.ema import named_weights
from kinema.policies.base import ComposedPolicy
from kinema.train.weights import fill, read_tensors


class AdaptedPolicies(Policy):
    """The policies of `runs` that hold adapters of one base: `use` says which of them acts, the first to begin with.

    Each acts exactly as it does alone: with its own adapters, trained parts, transforms and noise. Raises
    CheckpointError for a run without adapters or with those of another base, and for runs that differ in the network
    or in which parts of it they trained as a whole.
    """

    def __init__(
        self, runs: Mapping[str, Path], *, device: str = "cpu", trusted: tuple[str, ...] = config.TRUSTED
    ) -> None:
        if not runs:
            raise KinemaError("adapted policies: no run is given")
        stored = {name: load_stored(run, trusted=trusted) for name, run in runs.items()}
        _check_one_base(stored, runs)
        _check_one_network(stored, runs)
        self._first = next(iter(runs))
        network = load_policy(runs[self._first], trusted=trusted).network
        self._network, self._parts = network, dict[str, dict[str, Tensor]]()
        for number, (name, run) in enumerate(runs.items()):
            held, path = read_tensors(weights_file(run)), weights_file(run)
            lora = stored[name].adapter
            live = add(network, lora.lora, f"run{number}") if number and lora else adapters(network)
            fill(live, {key: tensor for key, tensor in held.items() if key in live or ".lora_" in key}, path)
            self._parts[name] = {key: tensor for key, tensor in held.items() if ".lora_" not in key}
            if other := sorted(self._parts[name].keys() ^ self._parts[self._first].keys()):
                raise CheckpointError(
                    f"{runs[self._first]} and {run} cannot share a network: only one of them trained {other[0]!r}"
                )
        self._policies = {
            name: ComposedPolicy(one.policy, one.spec, network, device=device) for name, one in stored.items()
        }
        self._numbers = {name: f"run{number}" if number else STORED for number, name in enumerate(runs)}
        for name in reversed(list(runs)):
            self.use(name)

    def use(self, name: str) -> None:
        """Let the policy `name` act from now on."""
        if name not in self._policies:
            raise unknown("adapted policy", name, self._policies)
        use(self._network, self._numbers[name])
        live, parts = named_weights(self._network), self._parts[name]
        lost = [key for key in parts if key not in live or live[key].shape != parts[key].shape]
        if lost:
            raise CheckpointError(f"{name!r} trained {lost[0]!r} of another form than {self._first!r} has")
        with torch.no_grad():
            for key, tensor in parts.items():
                live[key].copy_(tensor)
        self._acting = self._policies[name]
        self.spec, self.obs_horizon = self._acting.spec, self._acting.obs_horizon

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        """Begin new episodes, whichever policy acts in them."""
        for policy in self._policies.values():
            policy.reset(which, seeds=seeds)

    def act(self, observation: Observation) -> Chunk:
        """Return what the policy in use does."""
        return self._acting.act(observation)


def _check_one_network(stored: Mapping[str, StoredPolicy], runs: Mapping[str, Path]) -> None:
    """Raise CheckpointError where a run's network is built otherwise than the first one's, which all act with."""
    (first, own), *others = ((runs[name], _network(one)) for name, one in stored.items())
    for run, other in others:
        differing = [name for name, value in own.items() if other[name] != value]
        if differing:
            raise CheckpointError(f"{first} and {run} cannot share a network: they differ in {', '.join(differing)}")


def _network(stored: StoredPolicy) -> dict[str, Any]:
    """Return what decides how a network is built and acts; transforms only by what they make of its inputs."""
    policy, spec = stored.policy, stored.spec
    said = {field.name: config.to_data(vars(policy)[field.name]) for field in fields(policy)}
    del said["transforms"], said["exec_horizon"]
    chain = Chain(policy.transforms)
    seen = chain.observed(spec.observation)
    keys = [camera.key for camera in seen.cameras] + [vector.key for vector in seen.vectors]
    shapes = {key: seen.shape(key) for key in keys if key in policy.reads}
    return {**said, "shapes": (shapes, chain.action_width(spec.action.width)), "embodiment": spec.embodiment}


def _check_one_base(stored: Mapping[str, StoredPolicy], runs: Mapping[str, Path]) -> None:
    first = next(iter(stored.values())).adapter
    for name, one in stored.items():
        if one.adapter is None:
            raise CheckpointError(f"{runs[name]} holds no adapters, but all weights of a policy")
        if first is not None and (one.adapter.sha256, one.adapter.fresh) != (first.sha256, first.fresh):
            raise CheckpointError(
                f"{runs[name]} holds adapters of another base than {next(iter(runs.values()))}: "
                f"sha256 {one.adapter.sha256:.12}..., not {first.sha256:.12}..."
            )
