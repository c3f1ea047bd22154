"""From a run directory to a policy that acts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from kinema.core import config
from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.patterns import matched, matches
from kinema.core.spec import RobotSpec
from kinema.nets.ema import named_weights
from kinema.nets.lora import Adapter, digest
from kinema.policies.base import ComposedPolicy, PolicyConfig
from kinema.policies.network import Network, all_weights
from kinema.train.weights import fill, load_weights, read_tensors

POLICY_FILE = "policy.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class StoredPolicy:
    """The content of `policy.json`: all that acting needs besides the weights, and where those of a base are."""

    spec: RobotSpec
    policy: PolicyConfig
    adapter: Adapter | None = None


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
    """Return the trained policy of `run`, ready to act; every weight must match, none may be left over.

    The base of adapters is looked for where the run says; another one than it was trained on is a CheckpointError.
    """
    stored = load_stored(run, trusted=trusted)
    weights = weights_file(run)
    _refuse_circle(run, trusted)
    network = Network(stored.policy, stored.spec)
    if stored.adapter is not None:
        attach(network, stored.adapter, run, trusted=trusted)
    load_weights(network, weights)
    return ComposedPolicy(stored.policy, stored.spec, network, device=device)


def weights_file(run: Path) -> Path:
    """Return the file of the run's weights; raises CheckpointError where training has not finished."""
    weights = run / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointError(
            f"{weights} does not exist: training has not finished\n"
            "fix: run the same `kinema train` command again, it continues"
        )
    return weights


def attach(network: Network, adapter: Adapter, run: Path, *, trusted: tuple[str, ...] = config.TRUSTED) -> None:
    """Give `network` the base of the `adapter` of `run`, and room for its adapters."""
    from kinema.nets.adapters import adapt

    base = run / adapter.base
    if not base.is_dir():
        raise CheckpointError(f"{run} holds adapters alone, and their base is not there: {base}\nfix: put it there")
    filled = begin(network, base, fresh=adapter.fresh, trusted=trusted)
    weights = all_weights(network)
    if (found := digest({name: weights[name] for name in filled})) != adapter.sha256:
        raise CheckpointError(
            f"{run} holds adapters for another base than {base}:\n"
            f"the sha256 of its weights is {found}, expected {adapter.sha256}"
        )
    adapt(network, adapter.lora, own=named_weights(network).keys() - filled)


def begin(
    network: nn.Module, directory: Path, *, fresh: tuple[str, ...] = (), trusted: tuple[str, ...] = config.TRUSTED
) -> frozenset[str]:
    """Fill `network` with the weights of `directory` but for those that match `fresh`, and return which those are.

    A run's weights and the network's must be the same by name, shape and dtype; adapters in it are merged. Of a
    published backbone, with its config.json, the vision-language encoder and the trunk are taken. Raises
    CheckpointError.
    """
    live = named_weights(network)
    anew = matched(fresh, live, option="fresh", kind="weight")
    if not (directory / POLICY_FILE).is_file() and (directory / "config.json").is_file():
        if anew:
            raise KinemaError(f"fresh: {fresh[0]!r}; {directory} is a published backbone, beside which all is fresh")
        return _published(network, directory)
    stored = _weights_of(directory, trusted)
    taken = {name: tensor for name, tensor in stored.items() if not any(matches(pattern, name) for pattern in fresh)}
    fill({name: tensor for name, tensor in live.items() if name not in anew}, taken, directory / WEIGHTS_FILE)
    return frozenset(taken)


def _published(network: nn.Module, directory: Path) -> frozenset[str]:
    from kinema.checkpoints.backbones import load_backbone
    from kinema.nets.trunks.language_model import LanguageModelTrunk

    words = [part.lm_head is not None for part in network.modules() if isinstance(part, LanguageModelTrunk)]
    return load_backbone(network, directory, head=any(words))


def merged_weights(run: Path, network: nn.Module, *, trusted: tuple[str, ...] = config.TRUSTED) -> dict[str, Tensor]:
    """Return all weights of `network`, loaded from `run`, as if it had no adapters."""
    if load_stored(run, trusted=trusted).adapter is None:
        return all_weights(network)
    from kinema.nets.adapters import merged

    return merged(network)


def _weights_of(run: Path, trusted: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the weights of a run as if it had no adapters."""
    if load_stored(run, trusted=trusted).adapter is None:
        return read_tensors(weights_file(run))
    return merged_weights(run, load_policy(run, trusted=trusted).network, trusted=trusted)


def _refuse_circle(run: Path, trusted: tuple[str, ...]) -> None:
    """Raise CheckpointError where the base of the adapters of `run`, or that one's base, is `run` again."""
    first, seen = run, [run.resolve()]
    while (run / POLICY_FILE).is_file() and (adapter := load_stored(run, trusted=trusted).adapter) is not None:
        run = run / adapter.base
        if run.resolve() in seen:
            raise CheckpointError(
                f"{first} holds adapters whose base is in a circle: {' -> '.join(map(str, [*seen, run.resolve()]))}\n"
                "fix: put the run that they were trained on in its place"
            )
        seen.append(run.resolve())
