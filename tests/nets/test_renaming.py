"""Names go there and back, and what has none is refused."""

from __future__ import annotations

import pytest

from kinema.core.errors import KinemaError
from kinema.nets.renaming import Renaming

NAMES = Renaming([("stages.{s}.{k}.in.", "layer{s+1}.conv{k+4}."), ("stages.{s}.norm", "bn.{s}")])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stages.0.10.in.weight", "layer1.conv14.weight"),
        ("stages.9.0.in.a.bias", "layer10.conv4.a.bias"),
        ("stages.3.norm", "bn.3"),
    ],
)
def test_both_ways(ours: str, theirs: str) -> None:
    assert NAMES.theirs(ours) == theirs and NAMES.ours(theirs) == ours


def test_what_fits_no_pair_is_refused() -> None:
    with pytest.raises(KinemaError, match=r"no name for the weight 'stages\.3\.normal' is known; did you mean"):
        NAMES.theirs("stages.3.normal")
    with pytest.raises(KinemaError, match=r"no name for the weight 'layer0\.conv4\.weight'"):
        NAMES.ours("layer0.conv4.weight")
