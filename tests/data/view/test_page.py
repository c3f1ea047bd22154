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
    assert "idle &lt;0.9&gt; above 0.5" in page and "do thing 2" in page and "9 steps, 0.9 s" in page
    assert "end-effector delta position" in page and "<em>N</em>" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "http" not in page
    assert page == build_page(dataset, (2, 0), notes={2: ["idle <0.9> above 0.5"]})


def test_unknown_episode(dataset: Dataset) -> None:
    with pytest.raises(KinemaError, match="no episode 6"):
        build_page(dataset, (6,))


def test_chart_places_points_by_hand() -> None:
    svg = chart(np.array([[0.0], [1.0], [0.5]]), 10.0, title="hand", unit="m", names=["x"])
    # 52 to 476 across, 112 (low) to 8 (high) up.
    assert 'points="52.0,112.0 264.0,8.0 476.0,60.0"' in svg
    assert "hand [m] over 0.2 s" in svg and "<i></i>x" in svg


@pytest.mark.parametrize("values", [np.zeros((5, 1)), np.full((1, 1), 3.0)])
def test_chart_of_constants_and_of_one_step(values: np.ndarray) -> None:
    points = re.findall(r'points="([^"]+)"', chart(values, 10.0, title="t", unit="m", names=["x"]))
    assert len(points) == 1 and {pair.split(",")[1] for pair in points[0].split()} == {"60.0"}


def test_names_are_escaped() -> None:
    assert "<script>" not in chart(np.zeros((2, 1)), 1.0, title="<script>", unit="<b>", names=["<i>x"])
