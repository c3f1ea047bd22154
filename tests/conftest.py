"""What holds for all tests: MuJoCo draws with a backend that works here, chosen before anything imports it."""

from __future__ import annotations

from importlib.util import find_spec

from kinema.core.errors import UnavailableError
from kinema.sim.rendering import choose_backend


def pytest_configure() -> None:
    """Choose once; test workers inherit the choice. Where nothing can draw, the tests that need it skip."""
    if find_spec("mujoco") is None:
        return
    try:
        choose_backend()
    except UnavailableError:
        return
