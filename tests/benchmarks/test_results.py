"""Figures carry n and a spread, documents keep to the schema, and what does not is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import results

from kinema.core.errors import KinemaError
from kinema.evaluation.intervals import Rate


def test_a_repeated_measurement_is_its_median_between_its_ends() -> None:
    figure = results.repeated([3.0, 1.0, 2.0, 10.0], "ms", p95=9.0)
    assert figure == {"value": 2.5, "unit": "ms", "n": 4, "min": 1.0, "median": 2.5, "max": 10.0, "p95": 9.0}
    with pytest.raises(KinemaError, match="no samples to make a figure in ms"):
        results.repeated([], "ms")


def test_a_rate_has_the_wilson_interval() -> None:
    figure = results.rate(Rate(5, 10))
    # By hand: centre 0.5, half width z sqrt(0.25/10 + z²/400) / (1 + z²/10) with z = 1.959964.
    assert figure["value"] == 0.5
    assert (figure["successes"], figure["n"]) == (5, 10)
    assert figure["low"] == pytest.approx(0.236593, abs=1e-6)
    assert figure["high"] == pytest.approx(0.763407, abs=1e-6)


def test_a_written_document_is_read_back(tmp_path: Path) -> None:
    figures = {"speed": {"fast": results.repeated([1.0, 2.0], "frames/s"), "cameras": ["a"]}}
    path = results.write(
        "x", figures, command="python x.py", seeds=[3], notes=["n"], directory=tmp_path / "new", mean=0.5
    )
    document = results.read(path)
    assert path == tmp_path / "new" / "x.json"
    assert document["figures"] == figures
    assert (document["mean"], document["seeds"], document["notes"]) == (0.5, [3], ["n"])
    assert document["cores"] >= 1
    assert document["cpu"]
    assert "kinema" in document["versions"]
    assert results.read_all(path.parent) == {"x": document}
    path.rename(path.with_name("y.json"))
    with pytest.raises(KinemaError, match="is called 'x', expected 'y'"):
        results.read(path.with_name("y.json"))


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"a": 0.5}, r"figures\.a is the bare number 0\.5"),
        ({"a": {"value": 1.0, "n": 1}}, r"figures\.a: value 1\.0 in None"),
        ({"a": {"value": None, "unit": "s", "n": 1}}, r"figures\.a: value None in 's'"),
        ({"a": {"value": 1.0, "unit": "s", "n": 0}}, r"of n 0: expected a finite number and at least 1"),
        ({"a": {"value": 1.0, "unit": "s", "n": 4}}, r"n is 4, so low and high, or min, median and max must be there"),
        ({"a": {"b": {"value": 3.0, "unit": "s", "n": 2, "low": 1, "high": 2}}}, r"a\.b: 3\.0 is not between \[1, 2\]"),
        ({"a": {"value": 1.0, "unit": "s", "n": 2, "low": 2, "high": 0}}, r"is not between \[2, 0\]"),
    ],
)
def test_a_figure_without_what_it_needs_is_refused(figures: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match=message):
        results.write("x", figures, command="c", seeds=[], directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_needs_no_spread(tmp_path: Path) -> None:
    figures = {
        "p": results.once(0.01, "p-value", n=100),
        "s": results.once(2.0, "s"),
        "x": results.unavailable("no GPU"),
    }
    assert results.write("x", figures, command="c", seeds=[], directory=tmp_path).is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": 9}, "schema 9, expected 1"), ({"figures": []}, "figures must be an object")],
)
def test_foreign_documents(change: dict, message: str, tmp_path: Path) -> None:
    path = results.write("x", {}, command="c", seeds=[], directory=tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(KinemaError, match=message):
        results.read(path)
    path.write_text('{"schema": 1}')
    with pytest.raises(KinemaError, match="name, command, date"):
        results.read(path)
    path.write_text("{")
    with pytest.raises(KinemaError, match="cannot read"):
        results.read(path)
