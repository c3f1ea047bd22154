"""Overrides reach every shape of leaf that a recipe has, and a typing mistake names the nearest option."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from kinema.cli.overrides import override
from kinema.cli.parsing import options
from kinema.core.errors import KinemaError


class Part(ABC):  # noqa: B024 - what tyro must see is an annotation that is not the concrete class
    """What the fields promise; the configuration holds something concrete."""


@dataclass(frozen=True, kw_only=True)
class Camera(Part):
    """A camera encoder."""

    width: int = 32
    strides: tuple[int, ...] = (2, 1)


@dataclass(frozen=True, kw_only=True)
class Scale(Part):
    """A transform."""

    key: str
    mode: Literal["mean_std", "quantiles"] = "mean_std"


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A policy in miniature."""

    encoders: Mapping[str, Part]
    trunk: Part
    transforms: tuple[Part, ...] = ()
    limit: int | None = None
    absent: Part | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe in miniature."""

    policy: Toy
    steps: int = 100
    fast: bool = False
    rate: float = 1e-3
    tasks: tuple[str, ...] = ("reach", "push")
    name: str | None = None
    size: tuple[int, int] | None = None


RUN = Run(
    policy=Toy(
        encoders={"camera": Camera(), "hand_state": Scale(key="state")},
        trunk=Camera(width=5),
        transforms=(Scale(key="a"), Scale(key="b", mode="quantiles")),
    )
)


def changed(*arguments: str) -> Run:
    return override(RUN, list(arguments), "kinema train toy")


def test_nothing_given_changes_nothing() -> None:
    assert changed() == RUN


def test_plain_leaves_are_typed() -> None:
    assert changed("--steps", "7", "--fast", "--rate", "2e-4", "--name", "x") == replace(
        RUN, steps=7, fast=True, rate=2e-4, name="x"
    )


def test_an_abstract_field_takes_the_options_of_the_part_it_holds() -> None:
    assert changed("--policy.trunk.width", "9").policy.trunk == Camera(width=9)


def test_mappings_are_addressed_by_key_and_keep_their_classes() -> None:
    policy = changed("--policy.encoders.camera.width", "64", "--policy.encoders.hand_state.key", "hand").policy
    assert policy.encoders == {"camera": Camera(width=64), "hand_state": Scale(key="hand")}


def test_tuples_are_addressed_by_position_and_plain_ones_replaced() -> None:
    run = changed("--policy.transforms.1.mode", "mean_std", "--tasks", "door", "--policy.trunk.strides", "1", "1", "2")
    assert run.policy.transforms == (Scale(key="a"), Scale(key="b"))
    assert run.tasks == ("door",)
    assert run.policy.trunk == Camera(width=5, strides=(1, 1, 2))


def test_optional_leaves_take_a_value_or_none() -> None:
    assert changed("--policy.limit", "3").policy.limit == 3
    assert changed("--policy.limit", "None").policy.limit is None


def test_the_default_is_left_alone() -> None:
    changed("--policy.encoders.camera.width", "64")
    assert RUN.policy.encoders["camera"] == Camera()


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("--policy.encoders.camera.widht", "--policy.encoders.camera.width"),
        ("--policy.trnk.width", "--policy.trunk.width"),
        ("--policy.transforms.1.mod", "--policy.transforms.1.mode"),
        ("--step", "--steps"),
        ("--policy.steps", "--steps"),
        ("--polciy.encoders.hand_state.key", "--policy.encoders.hand-state.key"),
    ],
)
def test_an_unknown_option_names_the_nearest(given: str, nearest: str) -> None:
    with pytest.raises(KinemaError) as caught:
        changed(given, "9")
    message = str(caught.value)
    assert message.startswith(f"unknown option {given!r}; did you mean {nearest!r}?")
    assert "`kinema train toy --help`" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "many"], r"--steps.*'many'"),
        (["--steps"], r"Missing value for argument '--steps'"),
        (["--steps", "1", "--steps", "2"], r"option '--steps' is given twice"),
        (["--policy.transforms.0.mode", "median"], r"'median'.*'mean_std', 'quantiles'"),
        (["--size", "48"], r"--size.*expected argument count 2 of `INT INT`"),
        (["stray"], r"unexpected argument 'stray'"),
        (["--policy.absent", "x"], r"--policy.absent is fixed to None"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        changed(*arguments)


def test_help_lists_every_leaf_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        changed("--help")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for option in options(Run, RUN):
        assert option in shown, option
    assert "--policy.encoders.hand-state.key" in shown
