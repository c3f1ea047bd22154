"""Suites as the command line names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinema.cli.overrides import override
from kinema.core.errors import KinemaError
from kinema.core.names import find
from kinema.core.spec import RobotSpec, check_compatible


def make_suite(name: str, overrides: tuple[str, ...], prog: str) -> Any:
    """Return the suite called `name` with its own options taken from the command line."""
    return override(find("suite", name)(), list(overrides), prog)


def split_names(text: str, option: str) -> list[str]:
    """Return the parts of a comma-separated list; an empty part is an error."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise KinemaError(f"{option} {text!r}: expected names separated by commas, such as drawer-open,window-close")
    return names


def trusted_packages(text: str) -> tuple[str, ...]:
    """Return kinema and the packages that the option `--trust` names."""
    return ("kinema", *(split_names(text, "--trust") if text else ()))


def as_trained(suite: Any, observation: Any) -> Any:
    """Return the suite that offers what the policy observes; an option that asks for something else is an error."""
    offered, plain = suite.offering(observation), type(suite)()
    for name, asked in vars(suite).items():
        decided = getattr(offered, name)
        if asked != decided and asked != getattr(plain, name):
            option = f"--{name.replace('_', '-')}"
            raise KinemaError(f"{option} {asked!r}: the policy decides this and reads {decided!r}; leave it out")
    return offered


def fitting(suite: Any, spec: RobotSpec, *, suite_name: str, run: Path) -> Any:
    """Return the suite as the policy of `run`, with the interface `spec`, was trained in it; SpecMismatch if not so."""
    suite = as_trained(suite, spec.observation)
    check_compatible(suite.spec, spec, have_name=f"the suite {suite_name!r}", want_name=f"the policy of {run}")
    return suite


def wordings(suite: Any) -> dict[str, tuple[str, ...]]:
    """Return every task's instruction and the paraphrases that training may use."""
    return {name: (task.instruction, *task.paraphrases) for name, task in suite.tasks.items()}


def another(task: str, tasks: tuple[str, ...], suite: Any) -> str:
    """Return the task whose instruction stands in for that of `task`: the next one evaluated, else of the suite."""
    pool = tasks if len(tasks) > 1 else tuple(suite.tasks)
    return pool[(pool.index(task) + 1) % len(pool)]
