"""Patterns of names: parts, stars, and errors that name the nearest."""

from __future__ import annotations

import pytest

from kinema.core.errors import KinemaError
from kinema.core.patterns import matched, matches

NAMES = ("trunk.layers.0.q_proj.weight", "trunk.layers.1.q_proj.weight", "trunks.weight", "head.weight")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("trunk", NAMES[:2]),
        ("trunk*", NAMES[:3]),
        ("*.q_proj", NAMES[:2]),
        ("trunk.layers.1", NAMES[1:2]),
        ("*", NAMES),
    ],
)
def test_a_pattern_is_a_name_or_a_part_that_holds_it(pattern: str, expected: tuple[str, ...]) -> None:
    assert tuple(name for name in NAMES if matches(pattern, name)) == expected


def test_every_name_has_one_pattern_and_every_pattern_a_name() -> None:
    assert matched(["head", "trunk"], NAMES, option="o", kind="thing") == {
        "head.weight": "head",
        NAMES[0]: "trunk",
        NAMES[1]: "trunk",
    }
    assert matched([], NAMES, option="o", kind="thing") == {}
    with pytest.raises(KinemaError, match=r"^o: 'heads' matches no thing; did you mean 'head'\?$"):
        matched(["heads"], NAMES, option="o", kind="thing")
    with pytest.raises(KinemaError, match=r"^o: 'head.weight' is matched by 'head' and by '\*'; one must do$"):
        matched(["head", "*"], NAMES, option="o", kind="thing")
