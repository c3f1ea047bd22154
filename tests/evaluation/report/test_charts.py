import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.evaluation.intervals import Rate
from kinema.evaluation.report.charts import Series, histogram_chart, line_chart, log_ticks, rate_bar, tick_label, ticks


def points(svg, css):
    found = re.search(rf'class="[^"]*\b{css}\b[^"]*" points="([^"]+)"', svg).group(1)
    return np.array([[float(number) for number in pair.split(",")] for pair in found.split()])


def test_rate_bar_draws_the_rate_and_its_wilson_interval():
    bar = ElementTree.fromstring(rate_bar(Rate(17, 20), "first"))
    assert bar.attrib["aria-label"] == "85 %, 95 % interval 64 to 95 %, n = 20"
    assert [rect.attrib["width"] for rect in bar.iter("rect")] == ["100", "85"]
    assert {path.attrib["d"] for path in bar.iter("path")} == {"M63.96 6H94.76M63.96 2.5V9.5M94.76 2.5V9.5"}


def test_ticks_are_round_and_inside():
    assert ticks(0, 100) == [0, 50, 100]
    assert ticks(0, 1) == [0, 0.5, 1]
    assert ticks(-0.31, 0.9) == [0, 0.5]
    assert ticks(0, 20_000) == [0, 5000, 10_000, 15_000, 20_000]
    assert ticks(3, 3) == [3]
    assert log_ticks(0.02, 1.5) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1])
    assert log_ticks(1e-4, 2.0) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])


def test_tick_labels():
    assert [tick_label(value) for value in (0.0, 0.5, 20_000.0, 2e6)] == ["0", "0.5", "20k", "2M"]
    assert [tick_label(value) for value in (-1.0, 1e-5)] == ["\N{MINUS SIGN}1", "1e\N{MINUS SIGN}5"]


def test_line_chart_places_points_by_hand():
    """Plot area x 46..348, y 184..10; y from 1 to 2 is widened by 6 % to 0.94..2.06."""
    svg = line_chart(
        [Series(name="a", x=[0, 5, 10], y=[1, 2, 1.5], css="policy")], title="t", x_label="step", y_label="loss"
    )
    expected = [[46, 184 - 174 * 0.06 / 1.12], [197, 184 - 174 * 1.06 / 1.12], [348, 184 - 174 * 0.56 / 1.12]]
    np.testing.assert_allclose(points(svg, "policy"), expected, atol=0.006)
    assert "(log)" not in svg


def test_line_chart_turns_logarithmic_and_says_so():
    lines = [Series(name="a", x=[0, 1, 2], y=[100, 10, 1], css="policy")]
    svg = line_chart(lines, title="t", x_label="step", y_label="loss")
    assert "loss (log)" in svg
    height = points(svg, "policy")[:, 1]
    assert height[1] - height[0] == pytest.approx(height[2] - height[1], abs=0.02)


def test_line_chart_thins_long_curves_by_means_and_skips_gaps():
    y = np.tile([1.0, 3.0], 4000)
    y[0] = np.nan
    lines = [Series(name="a", x=range(8000), y=y, css="policy")]
    drawn = points(line_chart(lines, title="t", x_label="step", y_label="loss"), "policy")
    assert len(drawn) == 400
    assert np.ptp(drawn[:, 1]) < 5


def test_line_chart_errors():
    with pytest.raises(KinemaError, match="'t': no finite values"):
        line_chart([Series(name="a", x=[1], y=[np.nan], css="")], title="t", x_label="", y_label="")
    with pytest.raises(KinemaError, match="'a': 2 x but 1 y"):
        line_chart([Series(name="a", x=[1, 2], y=[1], css="")], title="t", x_label="", y_label="")


def test_histogram_shares_by_hand():
    """Two bins over 0..2: demonstrations 3 to 1, policy 1 to 1; the axis ends at 1.08 * 0.75 = 0.81."""
    svg = histogram_chart(np.array([0.5, 2.0]), np.array([0, 0.1, 0.2, 1.5]), title="x", x_label="x [m]", bins=2)

    def heights(css):
        return (134 - points(svg, css)[:, 1]) / 124 * 0.81

    np.testing.assert_allclose(heights("demos"), [0, 0.75, 0.75, 0.25, 0.25, 0], atol=1e-3)
    np.testing.assert_allclose(heights("policy"), [0, 0.5, 0.5, 0.5, 0.5, 0], atol=1e-3)


def test_constant_values_and_bad_values():
    svg = histogram_chart(np.ones(3), np.ones(5), title="x", x_label="x")
    assert "nan" not in svg
    with pytest.raises(KinemaError, match="'x': needs finite values"):
        histogram_chart(np.array([np.inf]), np.ones(2), title="x", x_label="x")
    with pytest.raises(KinemaError, match="'x': needs finite values"):
        histogram_chart(np.empty(0), np.ones(2), title="x", x_label="x")


def test_labels_are_escaped():
    svg = histogram_chart(np.arange(3.0), np.arange(3.0), title="<i>x", x_label='"&<')
    assert "<i>" not in svg
    assert "&lt;i&gt;x" in svg
    ElementTree.fromstring(svg)
