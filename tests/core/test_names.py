"""Names become objects in one place, and a wrong name brings its neighbour along."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kinema.core.errors import KinemaError
from kinema.core.names import PACKAGES, find, locate, members


@pytest.mark.parametrize("kind", sorted(PACKAGES))
def test_every_member_is_found(kind: str) -> None:
    assert members(kind) == tuple(sorted(members(kind)))
    for name in members(kind):
        found = find(kind, name)
        assert found.__module__ == f"{PACKAGES[kind]}.{name.replace('-', '_')}"
        assert find(kind, name.replace("-", "_")) is found
    assert "base" not in members(kind)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("head", "flwo", "unknown head 'flwo'; did you mean 'flow'\\?\nknown: .*flow"),
        ("recipe", "metaworld", "unknown recipe 'metaworld'; did you mean 'metaworld-"),
        ("encoder", "base", "unknown encoder 'base'"),
        ("hed", "flow", "unknown kind 'hed'; did you mean 'head'"),
        ("head", "kinema.heads.flow:Flw", "did you mean 'Flow'"),
        ("head", "kinema.heads.flow:__builtins__", "unknown object in kinema.heads.flow"),
        ("head", "kinema.heads.flow:", "unknown object in kinema.heads.flow ''"),
        ("head", "no_such_package.module:Thing", "cannot import 'no_such_package.module'"),
        ("head", ":Thing", "cannot import ''"),
        ("head", ".flow:Flow", "cannot import '.flow'"),
    ],
)
def test_wrong_names(kind: str, name: str, message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        find(kind, name)


def test_objects_outside_the_house_are_located() -> None:
    from collections import OrderedDict

    assert find("head", "collections:OrderedDict") is OrderedDict
    assert locate("kinema.core.spec:Camera.key").__class__ is property


def test_names_are_listed_without_importing_members() -> None:
    program = (
        "import sys; from kinema.core.names import *; [members(k) for k in PACKAGES];"
        "print([m for m in ('torch', 'mujoco', 'transformers', 'kinema.heads.flow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
