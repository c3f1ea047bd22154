"""Messages that bring the nearest match along."""

from __future__ import annotations

from kinema.core.errors import KinemaError, nearest, unknown


def test_nearest() -> None:
    assert nearest("flwo", ["flow", "gmm"]) == "; did you mean 'flow'?"
    assert nearest("table", ["corner_table_view_long", "x"]) == "; did you mean 'corner_table_view_long'?"
    assert nearest("qqq", ["flow"]) == "" and nearest("", ["flow"]) == "" and nearest("x", []) == ""


def test_unknown_lists_a_few() -> None:
    error = unknown("thing", "zz", (f"name{i:02d}" for i in range(20)))
    assert isinstance(error, KinemaError) and isinstance(error, ValueError)
    assert str(error).startswith("unknown thing 'zz'\nknown: name00, name01,") and str(error).endswith(
        "... (20 in all)"
    )
    assert str(unknown("thing", "zz", [])) == "unknown thing 'zz'\nknown: none"
