"""Gripper conventions: which number means open, which closed, and whether it is a place or a push."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from kinema.core.errors import KinemaError, unknown

Commands = Literal["position", "effort"]


@dataclass(frozen=True, kw_only=True)
class Gripper:
    """What a gripper's number means: its values at fully open and fully closed, and whether it is a place or a force.

    "position" says where the fingers are to be, "effort" only which way they are pushed.
    """

    open: float
    closed: float
    unit: str = "1"
    commands: Commands = "position"

    def __post_init__(self) -> None:
        if self.commands not in get_args(Commands):
            raise unknown("commands of a gripper", self.commands, get_args(Commands))
        if self.open == self.closed:
            raise KinemaError(f"gripper: open and closed are both {self.open}")

    @property
    def words(self) -> str:
        """The convention as an ActionSpec says it: "0 closed, 1 open" or "+1 closes, -1 opens"."""
        if self.commands == "effort":
            return f"{self.closed:+g} closes, {self.open:+g} opens"
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.closed:g}{unit} closed, {self.open:g}{unit} open"


def convert_gripper(values: np.ndarray, source: Gripper, target: Gripper) -> np.ndarray:
    """Return values (...) of one convention in another: open stays open, closed stays closed, linear between.

    Efforts and positions are a KinemaError: a push does not say how far.
    """
    if source.commands != target.commands:
        raise KinemaError(
            f"gripper: {source.commands} ({source.words}) cannot become {target.commands} ({target.words})"
        )
    opened = (np.asarray(values, np.float64) - source.closed) / (source.open - source.closed)
    return target.closed + opened * (target.open - target.closed)
