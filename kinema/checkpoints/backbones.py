"""Fill the vision-language parts of a network from a published directory; every weight has a place, or is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kinema.checkpoints.layouts import Published, read
from kinema.checkpoints.shards import open_weights, published, read_json
from kinema.core.errors import CheckpointError, KinemaError, nearest
from kinema.nets.encoders.vision_language import VisionLanguage, VisionLanguageEncoder
from kinema.nets.trunks.language_model import LanguageModelTrunk

Found = TypeVar("Found", bound=nn.Module)
Places = Mapping[str, Tensor]
Plan = dict[str, tuple[str, Callable[[Tensor], Tensor]]]
"""Of each place the name in the file, and what makes the weight of it."""


def load_backbone(network: nn.Module, directory: str | Path, *, head: bool = True) -> frozenset[str]:
    """Copy published weights into the one vision-language encoder and the one language-model trunk of `network`.

    Returns the names of the weights that are now the published ones.

    `directory` is a local one, or a hub id: PaliGemma, SmolVLM, Idefics 3 or OpenVLA. A trunk of fewer layers takes the
    first, and one of fewer words the first of those, as it can neither read nor say others. Without `head` the weights
    that make logits of hidden states are left out, for policies that say no words; the trunk's size is then `tied`.
    Raises CheckpointError where config.json describes another size than the network's, for a weight without a place, a
    place without a weight, pickles and unfinished downloads, before any is copied.
    """
    encoder = _only(network, VisionLanguageEncoder)
    trunk = _only(network, LanguageModelTrunk)
    path = published(directory)
    said = read(read_json(path / "config.json"))
    _compare(said, encoder.config, trunk, head=head, path=path)
    places = _places(encoder, trunk)
    with open_weights(path) as weights, torch.no_grad():
        plan = _plan(said, weights.shapes, places, lambda place: _unread(place, said, trunk, head=head))
        for place, (name, make) in plan.items():
            places[place].copy_(_cut(place, make(weights.load(name)), places[place]))
    copied = {id(places[place]) for place in plan}
    return frozenset(name for name, w in network.named_parameters(remove_duplicate=False) if id(w) in copied)


def _only(network: nn.Module, kind: type[Found]) -> Found:
    found = [module for module in network.modules() if isinstance(module, kind)]
    if len(found) != 1:
        raise KinemaError(f"load_backbone: the network has {len(found)} {kind.__name__}s, expected one")
    return found[0]


def _places(encoder: VisionLanguageEncoder, trunk: LanguageModelTrunk) -> dict[str, Tensor]:
    """Return every weight to fill, by the names of `kinema.checkpoints.layouts`."""
    rename = ((r"^towers\.(\d+)\.model\.", r"vision.\1."), (r"^model\.", "language."))
    weights = {**dict(encoder.named_parameters()), **dict(trunk.named_parameters())}
    if any(weight.is_meta for weight in weights.values()):
        raise KinemaError("load_backbone: the network is on the meta device, where weights have no values")
    places: dict[str, Tensor] = {}
    for name, weight in weights.items():
        for pattern, replacement in rename:
            name = re.sub(pattern, replacement, name)
        places[name] = weight
    return places


def _unread(place: str, said: Published, trunk: LanguageModelTrunk, *, head: bool) -> bool:
    """Return whether a published weight is rightly left out: layers above the trunk's, and a head it has no use for."""
    layer = re.match(r"language\.layers\.(\d+)\.", place)
    if layer is not None:
        return trunk.model.size.layers <= int(layer[1]) < said.size.layers
    return place == "lm_head.weight" and (said.size.tied or not head)


def _compare(said: Published, config: VisionLanguage, trunk: LanguageModelTrunk, *, head: bool, path: Path) -> None:
    """Raise CheckpointError unless the network is what config.json describes; shapes alone say nothing of heads."""
    sides = [tower.native or tower.size[0] for tower in config.towers]
    towers = [replace(t, size=(n, n), native=None) for t, n in zip(config.towers, sides, strict=True)]
    size = said.size.truncated(min(said.size.layers, trunk.model.size.layers))
    size = replace(size, vocabulary=min(size.vocabulary, trunk.model.size.vocabulary))
    if not head:
        size = replace(size, tied=True)
    wrong = [f"{len(towers)} towers, not {len(said.towers)}"] if len(towers) != len(said.towers) else []
    for number, (own, other) in enumerate(zip(towers, said.towers, strict=False)):
        wrong += _differences(f"tower {number}", own, other)
    wrong += _differences("language model", trunk.model.size, size)
    joins, other_joins = (config.projector, config.shuffle), (said.projector, said.shuffle)
    wrong += [f"projector and shuffle are {joins}, not {other_joins}"] if joins != other_joins else []
    if wrong:
        raise CheckpointError("\n".join([f"the network is not what {path / 'config.json'} describes:", *wrong[:8]]))


def _differences(what: str, own: Any, other: Any) -> list[str]:
    pairs = [(field.name, vars(own)[field.name], vars(other)[field.name]) for field in fields(own)]
    return [f"{what}: {name} is {mine!r}, not {theirs!r}" for name, mine, theirs in pairs if mine != theirs]


def _cut(place: str, weight: Tensor, own: Tensor) -> Tensor:
    """Return `weight`, of words without the rows past those of the trunk: PaliGemma has 64 that no tokenizer gives."""
    return weight[: len(own)] if place in ("language.embed_tokens.weight", "lm_head.weight") else weight


def _plan(
    said: Published, shapes: Mapping[str, tuple[int, ...]], places: Places, unread: Callable[[str], bool]
) -> Plan:
    """Return for each place what fills it; raises CheckpointError unless all weights and places come out even."""
    plan: Plan = {}
    extra, wrong = [], []
    for name, shape in shapes.items():
        parts = said.parts(name)
        if parts is None:
            extra.append(name)
            continue
        for place, make in parts:
            if place in plan or (place not in places and not unread(place)):
                extra.append(name)
            elif place in places:
                made = tuple(_cut(place, make(torch.empty(shape, device="meta")), places[place]).shape)
                if made != tuple(places[place].shape):
                    wrong.append(f"{name} is {shape}, but {place} {tuple(places[place].shape)}")
                plan[place] = name, make
    lost = [place for place in places if place not in plan]
    said_wrong = [f"no weight for {lost[0]!r}{nearest(lost[0], extra)} ({len(lost)} in all)"] if lost else []
    said_wrong += [f"no place for {extra[0]!r} ({len(extra)} in all)"] if extra else []
    said_wrong += [f"{wrong[0]} ({len(wrong)} in all)"] if wrong else []
    if said_wrong:
        raise CheckpointError("\n".join(["the weights are not those that config.json describes:", *said_wrong]))
    return plan
