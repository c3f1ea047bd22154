"""Simulators that the tests of this folder share; without them the tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import pytest

from kinema.core.errors import UnavailableError
from kinema.sim.rendering import choose_backend
from kinema.sim.suites.metaworld import MetaWorld, MetaWorldEnvironment


@pytest.fixture(scope="session")
def suite() -> MetaWorld:
    if find_spec("metaworld") is None:  # importing it here would fix MuJoCo's backend before it is chosen
        pytest.skip("metaworld is not installed")
    try:
        choose_backend()
    except UnavailableError as error:
        pytest.skip(str(error))
    return MetaWorld(cameras=("gripperPOV",), size=24)


@pytest.fixture(scope="session")
def environment(suite: MetaWorld) -> Iterator[MetaWorldEnvironment]:
    made = suite.make()
    yield made
    made.close()


@pytest.fixture(scope="session")
def blind(suite: MetaWorld) -> Iterator[MetaWorldEnvironment]:
    """An environment without cameras, for what needs no pictures."""
    made = replace(suite, cameras=()).make()
    yield made
    made.close()
