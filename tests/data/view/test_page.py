"""The page that shows episodes: whole, self-contained, every number with its unit."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.data.lerobot.reader import Dataset
from kinema.data.view.curves import chart
from kinema.data.view.page import build_page


class _Balanced(HTMLParser):
    """Checks that every tag that needs it is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_holds_chosen_episodes_and_asks_nothing_of_the_network(dataset: Dataset) -> None:
    told: list[tuple[int, int]] = []
    page = build_page(dataset, (2, 0), notes={2: ["idle <0.9> above 0.5"]}, progress=lambda *a: told.append(a))
    parser = _Balanced()
    parser.feed(page)
    assert not parser.open
    assert re.findall(r'<section id="e(\d+)">', page) == ["2", "0"] and told == [(1, 2), (2, 2)]
    assert page.count("data:video/mp4;base64,") == 4 and page.count('<figure class="chart">') == 8
    assert "idle &lt;0.9&gt; above 0.5" in page and "do thing 2" in page and "9 steps, 0.9&nbsp;s" in page
    assert "end-effector delta position" in page and "<em>N</em>" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "http" not in page
    assert page == build_page(dataset, (2, 0), notes={2: ["idle <0.9> above 0.5"]})


def test_unknown_episode(dataset: Dataset) -> None:
    with pytest.raises(KinemaError, match="no episode 6"):
        build_page(dataset, (6,))


def test_chart_places_points_by_hand() -> None:
    svg = chart(np.array([[0.0], [1.0], [0.5]]), 10.0, title="hand", unit="m", names=["x"])
    # 58 to 356 across, 112 (low) to 8 (high) up.
    assert 'points="58.0,112.0 207.0,8.0 356.0,60.0"' in svg
    assert "hand [m] over 0.2 s" in svg and "<i></i>x" in svg


@pytest.mark.parametrize("values", [np.zeros((5, 1)), np.full((1, 1), 3.0)])
def test_chart_of_constants_and_of_one_step(values: np.ndarray) -> None:
    points = re.findall(r'points="([^"]+)"', chart(values, 10.0, title="t", unit="m", names=["x"]))
    assert len(points) == 1 and {pair.split(",")[1] for pair in points[0].split()} == {"60.0"}


def test_names_are_escaped() -> None:
    assert "<script>" not in chart(np.zeros((2, 1)), 1.0, title="<script>", unit="<b>", names=["<i>x"])


def test_ticks_say_no_more_than_the_curve_shows() -> None:
    """The middle of a sine is 0, not 1.75e-07, and no label is longer than the margin has room for."""
    for values, expected in (
        ([-0.000998, 0.00100035], ("-0.001", "0", "0.001")),
        ([-1.0, 1.0 + 3.5e-7], ("-1", "0", "1")),
        ([123.25, 123.75], ("123.25", "123.5", "123.75")),
        ([0.0, 40000.0], ("0", "20000", "40000")),
        ([2.0, 2.0], ("1", "2", "3")),
    ):
        svg = chart(np.array(values)[:, None], 10.0, title="t", unit="m", names=["x"])
        assert tuple(re.findall(r'class="tick end">([^<]*)</text>', svg)[:3]) == expected


def test_components_beyond_the_colours_are_dashed() -> None:
    svg = chart(np.zeros((3, 8)), 10.0, title="t", unit="rad", names=[f"joint_{i}" for i in range(8)])
    looks = re.findall(r'<polyline class="line ([^"]*)"', svg)
    assert looks == ["c0", "c1", "c2", "c3", "c4", "c5", "c0 again", "c1 again"]
    assert re.findall(r'<span class="(c[^"]*)"><i>', svg) == looks
