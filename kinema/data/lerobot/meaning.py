"""What the features of a dataset mean: as its own meta/kinema.json says, or for a foreign one the card of its user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.core.config import load
from kinema.core.errors import DataError, KinemaError
from kinema.core.spec import ACTION, RobotSpec
from kinema.data.cards import CameraCard, Card
from kinema.data.importers.base import spec_of
from kinema.data.importers.lerobot import TASK, LeRobotSource
from kinema.data.lerobot import layout
from kinema.data.lerobot.versions import View
from kinema.data.video import VideoCodec


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The typed spec and, per key of a sample, the features it is made of; `instruction` as in a `Card`."""

    spec: RobotSpec
    features: Mapping[str, tuple[str, ...]]
    cameras: Mapping[str, CameraCard]
    successes: tuple[bool, ...]
    instruction: str = f"field:{TASK}"
    codec: VideoCodec | None = None
    provenance: tuple[Mapping[str, Any], ...] = ()
    card: Card | None = None


def meaning(view: View, card: Card | Path | None) -> Meaning:
    """Return what the features of `view` mean; raises KinemaError when nobody says so, or two do."""
    if (view.root / layout.KINEMA).is_file():
        if card is not None:
            raise KinemaError(f"{view.root} says itself what its features mean ({layout.KINEMA}); it needs no card")
        return _own(view)
    if card is None:
        raise DataError(
            f"{view.root} has no {layout.KINEMA}, so units, frames, action kind and bounds, gripper convention and "
            f"rotation layout of its vectors and actions are unknown\n"
            f"fix: kinema data import lerobot {view.root} --card-out card.json writes a card of what is known;\n"
            f"     fill in what is '?', and read the dataset with that card"
        )
    return _carded(view, read_card(card) if isinstance(card, Path) else card)


def read_card(path: Path) -> Card:
    """Return the card stored as JSON at `path`; raises KinemaError for anything else."""
    card = load(path)
    if not isinstance(card, Card):
        raise KinemaError(f"{path} holds a {type(card).__name__}, expected a Card")
    return card


def _carded(view: View, card: Card) -> Meaning:
    source = LeRobotSource(view)
    spec = spec_of(source, card)
    features: dict[str, tuple[str, ...]] = {f"image.{camera.name}": (camera.field,) for camera in card.cameras}
    features |= {f"vector.{vector.name}": vector.fields for vector in card.vectors}
    successes = source.successes
    if card.success != "file":
        successes = (card.success == "all",) * len(view.episodes)
    if successes is None:
        raise DataError("the dataset does not say which episodes succeeded; the card's success must be 'all' or 'none'")
    return Meaning(
        spec=spec,
        features=features | {ACTION: card.action.fields},
        cameras={camera.name: camera for camera in card.cameras},
        successes=successes,
        instruction=card.instruction,
        card=card,
    )


def _own(view: View) -> Meaning:
    stored = layout.read_kinema(view.root)
    spec: RobotSpec = stored["spec"]
    if view.fps != layout.frames_per_second(spec):
        raise DataError(f"{view.root}: info.json says {view.fps} fps, the spec {layout.frames_per_second(spec)}")
    for name, feature in layout.features(spec, stored["codec"]).items():
        if name not in view.features:
            raise DataError(f"{view.root}: info.json has no feature {name!r}, which the spec in {layout.KINEMA} has")
        have = view.features[name]
        if have["shape"] != feature["shape"] or have["dtype"] != feature["dtype"]:
            raise DataError(
                f"{view.root}: feature {name!r} is {have['dtype']} {have['shape']} in info.json, "
                f"{feature['dtype']} {feature['shape']} in the spec"
            )
    if any(row.origin is None or row.success is None for row in view.episodes):
        raise DataError(f"{view.root}: meta/episodes does not say where the episodes come from, as kinema writes it")
    said = stored["provenance"]
    if not isinstance(said, list) or not all(isinstance(entry, dict) for entry in said):
        raise DataError(f"{view.root / layout.KINEMA}: provenance is {said!r:.80}, expected a list of objects")
    keys = [camera.key for camera in spec.observation.cameras] + [*layout.widths(spec)]
    return Meaning(
        spec=spec,
        features={key: (layout.feature_key(key),) for key in keys},
        cameras={c.name: CameraCard(name=c.name, field=layout.feature_key(c.key)) for c in spec.observation.cameras},
        successes=tuple(bool(row.success) for row in view.episodes),
        codec=stored["codec"],
        provenance=tuple(said),
    )
