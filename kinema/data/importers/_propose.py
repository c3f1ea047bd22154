"""Cards for fields of which nothing but name, shape and dtype is known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kinema.data.cards import UNKNOWN, ActionCard, CameraCard, Card, Field, VectorCard


def proposed(fields: Mapping[str, Field], action: Iterable[str] = (), **said: Any) -> Card:
    """Return a card of all cameras and vectors among `fields` but `action`, the rest as `said`; units are unknown."""
    names = dict(zip(fields, _short([*fields]), strict=True))
    action = tuple(action)
    components = tuple(c for name in action for c in component_names("action", fields[name].shape))
    if len(set(components)) != len(components):
        components = tuple(f"action_{i}" for i in range(len(components)))
    silent = (UNKNOWN,) * len(components)
    card = Card(
        cameras=tuple(
            CameraCard(name=names[n], field=n) for n, f in fields.items() if len(f.shape) == 3 and f.shape[2] == 3
        ),
        vectors=tuple(
            vector(names[n], n, f)
            for n, f in fields.items()
            if len(f.shape) < 2 and f.dtype != "text" and n not in action
        ),
        action=ActionCard(fields=action, components=components, units=silent, gripper=UNKNOWN),
        success=UNKNOWN,
    )
    return replace(card, **said)


def vector(name: str, field_name: str, shown: Field) -> VectorCard:
    """Return a vector card of one field, with numbered components of unknown units."""
    components = component_names(name, shown.shape)
    return VectorCard(name=name, fields=(field_name,), components=components, units=(UNKNOWN,) * len(components))


def component_names(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return `name_0`, `name_1` ... for every number of one step."""
    return tuple(f"{name}_{index}" for index in range(int(np.prod(shape))))


def _short(names: list[str]) -> list[str]:
    """Return names that a dataset can hold: the last part of a path, or all of it where that is not unique."""
    last = [re.sub(r"[^A-Za-z0-9_\-]", "_", name.rsplit("/", 1)[-1]) for name in names]
    whole = [re.sub(r"[^A-Za-z0-9_\-]", "_", name.strip("/")) for name in names]
    taken = {"state": "proprioception", "environment_state": "full_state", "images": "images_"}
    chosen = [one if last.count(one) == 1 else other for one, other in zip(last, whole, strict=True)]
    return [taken.get(name, name) for name in chosen]
