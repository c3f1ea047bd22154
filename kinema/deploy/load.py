"""From a run directory to a policy that acts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kinema.core import config
from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.spec import RobotSpec
from kinema.policies.base import ComposedPolicy, Network, PolicyConfig
from kinema.train.weights import load_weights

POLICY_FILE = "policy.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class StoredPolicy:
    """The content of `policy.json`: all that acting needs besides the weights."""

    spec: RobotSpec
    policy: PolicyConfig


def load_stored(run: Path, *, trusted: tuple[str, ...] = config.TRUSTED) -> StoredPolicy:
    """Return what `run/policy.json` describes; a missing, foreign or malformed file is a CheckpointError."""
    path = run / POLICY_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{run} is no run directory: it has no {POLICY_FILE}\nfix: give the directory that `kinema train` wrote"
        )
    try:
        stored = config.load(path, trusted=trusted)
    except (KinemaError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(stored, StoredPolicy):
        raise CheckpointError(f"{path} holds a {type(stored).__name__}, expected a StoredPolicy")
    return stored


def load_policy(run: Path, *, device: str = "cpu", trusted: tuple[str, ...] = config.TRUSTED) -> ComposedPolicy:
    """Return the trained policy of `run`, ready to act; every weight must match, none may be left over."""
    stored = load_stored(run, trusted=trusted)
    weights = run / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointError(
            f"{weights} does not exist: training has not finished\n"
            "fix: run the same `kinema train` command again, it continues"
        )
    network = Network(stored.policy, stored.spec)
    load_weights(network, weights)
    return ComposedPolicy(stored.policy, stored.spec, network, device=device)
