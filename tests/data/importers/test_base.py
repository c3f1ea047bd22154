"""Cards and episodes of a source in memory: what is missing is listed, what does not fit is named."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from kinema.core.errors import DataError, SpecMismatch
from kinema.data.cards import UNKNOWN, ActionCard, CameraCard, Card, Field, VectorCard
from kinema.data.importers._propose import proposed
from kinema.data.importers.base import LazyFields, RawEpisode, Source, episodes, spec_of

FIELDS = {
    "cam": Field(shape=(2, 3, 3), dtype="uint8"),
    "a/state": Field(shape=(2,), dtype="float64"),
    "b/state": Field(shape=(), dtype="int64"),
    "act": Field(shape=(2,), dtype="float32"),
    "text": Field(shape=(), dtype="text"),
}
IMAGES = np.arange(54, dtype=np.uint8).reshape(3, 2, 3, 3)
VALUES = {
    "cam": IMAGES,
    "a/state": np.array([[1.0, 2], [3, 4], [5, 6]]),
    "b/state": np.array([7, 8, 9]),
    "act": np.ones((3, 2), np.float32),
    "text": "go",
}
CARD = Card(
    embodiment="arm",
    rate_hz=10.0,
    cameras=(CameraCard(name="front", field="cam"),),
    vectors=(VectorCard(name="pose", fields=("b/state", "a/state"), components=("g", "x", "y"), units=("1", "m", "m"), frame="world"),),  # noqa: E501
    action=ActionCard(fields=("act",), components=("x", "y"), units=("m", "m"), frame="world", kind="delta", integrator="robot", low=(-1.0, -1.0), high=(1.0, 1.0)),  # noqa: E501
    instruction="field:text",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Memory(Source):
    raw: RawEpisode = field(default_factory=lambda: RawEpisode(fields=VALUES, success=True))

    @property
    def fields(self):
        return FIELDS

    @property
    def card(self):
        return CARD

    def __len__(self):
        return 1

    def read(self, index):
        return self.raw


def only(card=CARD, **raw):
    return next(iter(episodes(Memory(raw=RawEpisode(**{"fields": VALUES, "success": True} | raw)), card)))


def test_fields_become_frames():
    episode = only()
    assert episode.frames["vector.pose"].tolist() == [[7, 1, 2], [8, 3, 4], [9, 5, 6]]
    np.testing.assert_array_equal(episode.frames["image.front"], IMAGES)
    assert episode.instruction == "go" and episode.success and episode.valid == {}


def test_turned_and_exchanged_images():
    camera = replace(CARD.cameras[0], turned_deg=180, channels="bgr")
    episode = only(replace(CARD, cameras=(camera,)))
    np.testing.assert_array_equal(episode.frames["image.front"], IMAGES[:, ::-1, ::-1, ::-1])
    for changes, message in (
        ({"turned_deg": 90}, "expected 0 or 180"),
        ({"channels": "rbg"}, "expected 'rgb' or 'bgr'"),
    ):
        with pytest.raises(SpecMismatch, match=message):
            only(replace(CARD, cameras=(replace(camera, **changes),)))


def test_success_is_said_by_the_file_or_the_card():
    with pytest.raises(DataError, match="episode 0: the file does not say whether it succeeded"):
        only(success=None)
    assert only(replace(CARD, success="all"), success=None).success
    assert not only(replace(CARD, success="none"), success=True).success
    with pytest.raises(SpecMismatch, match="success: 'most', expected 'file', 'all' or 'none'"):
        only(replace(CARD, success="most"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embodiment": UNKNOWN}, "embodiment: not said"),
        ({"action": replace(CARD.action, fields=("ac",))}, "no field 'ac'; did you mean 'act'"),
        ({"action": replace(CARD.action, fields=())}, "action: fields not said"),
        ({"action": replace(CARD.action, units=("m", UNKNOWN))}, "unit of y not said"),
        ({"cameras": (CameraCard(name="x", field="act"),)}, r"field 'act' is \(2,\), expected \(Hi, Wi, 3\)"),
        ({"action": replace(CARD.action, components=("x",), units=("m",))}, "the file has 2 components, the card 1"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(SpecMismatch, match=message):
        spec_of(Memory(), replace(CARD, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act": np.ones((2, 2))}, "episode 0: fields of different lengths"),
        ({"act": np.array([["a", "b"]] * 3)}, "field 'act': <U1, expected numbers"),
        ({"text": " "}, "episode 0: field:text is ' ', expected a text"),
        ({"cam": IMAGES.astype(float) + 0.5}, r"expected \(T, Hi, Wi, 3\) of 0 to 255"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        only(fields=VALUES | changes)


def test_own_clocks_are_aligned_and_the_oldest_part_dates_a_vector():
    second = 1_000_000_000
    stamps = {name: np.arange(3) * second for name in VALUES} | {"a/state": np.arange(3) * second - 5}
    episode = only(replace(CARD, rate_hz=1.0), own_clocks=True, captured_ns=stamps)
    assert episode.captured_ns["vector.pose"].tolist() == [-5, second - 5]
    assert episode.captured_ns["action"].tolist() == [0, second] and episode.valid["action"].all()


def test_fields_are_read_only_when_asked_for():
    read = []
    fields = LazyFields(["x", "y"], lambda name: read.append(name) or name)
    assert "x" in fields and list(fields) == ["x", "y"] and read == []
    assert fields["y"] == "y" and read == ["y"]
    with pytest.raises(KeyError):
        fields["z"]


def test_a_proposal_says_nothing_that_is_not_known():
    card = proposed(FIELDS, ["act"])
    assert [v.name for v in card.vectors] == ["a_state", "b_state"] and card.cameras[0].name == "cam"
    assert {"embodiment: not said", "success: not said", "action: gripper not said"} <= set(card.missing())
