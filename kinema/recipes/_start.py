"""Where the weights of a run begin, and what of them trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from kinema.core.errors import KinemaError
from kinema.core.rng import seed_of
from kinema.core.spec import RobotSpec
from kinema.deploy.load import POLICY_FILE, begin, load_stored
from kinema.heads._rows import SaysTokens
from kinema.heads.base import HeadConfig
from kinema.nets.ema import named_weights
from kinema.nets.lora import Adapter, Lora, digest
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network

Trusted = tuple[str, ...]
"""The packages whose classes are loaded."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a `Recipe` says of it; what is drawn depends on `seed` alone."""

    start: str | None
    fresh: tuple[str, ...]
    lora: Lora | None
    seed: int

    def network(self, policy: PolicyConfig, spec: RobotSpec, trusted: Trusted) -> tuple[Network, Adapter | None]:
        """Return the network, ready to be trained, and what is to be said of its adapters, if it has any.

        Raises KinemaError for adapters without a base.
        """
        if self.start is None and (self.lora is not None or self.fresh):
            raise KinemaError(
                f"{'adapters need a base' if self.lora else 'fresh parts need others that are not'}\n"
                "fix: --start with the directory of a run, or of a published backbone"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("weights", self.seed))
            network = Network(policy, spec)
        if self.start is None:
            return network, None
        _check_tokens(policy.head, Path(self.start), trusted)
        filled = begin(network, Path(self.start), fresh=self.fresh, trusted=trusted)
        return network, None if self.lora is None else self._adapted(network, self.lora, filled)

    def _adapted(self, network: Network, lora: Lora, filled: frozenset[str]) -> Adapter:
        from kinema.nets.adapters import adapt

        weights = named_weights(network)
        begun = {name: p for name, p in network.named_parameters() if p.requires_grad and name not in filled}
        sha256 = digest({name: tensor for name, tensor in weights.items() if name in filled})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("adapters", self.seed))
            adapt(network, lora, own=weights.keys() - filled)
        left = dict.fromkeys(".".join(name.split(".")[:2]) for name, p in begun.items() if not p.requires_grad)
        if left:
            raise KinemaError(
                f"lora: {', '.join(left)} would stay as drawn at random: not in {self.start}, and not trained"
                f"\nfix: --adapt.train {' '.join((*lora.train, *left))}"
            )
        return Adapter(lora=lora, base=str(self.start), sha256=sha256, fresh=self.fresh)


def _check_tokens(head: HeadConfig, start: Path, trusted: Trusted) -> None:
    """Raise KinemaError where the run `start` says actions by other tokens: its weights would mean something else."""
    if not isinstance(head, SaysTokens) or not (start / POLICY_FILE).is_file():
        return
    before = load_stored(start, trusted=trusted).policy.head
    if isinstance(before, SaysTokens) and before.codec != head.codec:
        raise KinemaError(
            f"{start} says its actions by another {type(before.codec).__name__} than this recipe, so its weights would "
            "mean other actions\nfix: give the head the codec of that run's policy.json; else FAST is fitted anew"
        )
