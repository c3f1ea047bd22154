"""Recordings that mcap-ros2-support wrote: streams of several rates onto one clock, with their own times."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace
from functools import partial

import mcap_ros2.writer
import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from mcap_ros2.writer import Writer
from PIL import Image

from kinema.cli.main import main
from kinema.core.config import save
from kinema.core.errors import DataError, SpecMismatch
from kinema.data.importers.base import episodes
from kinema.data.importers.mcap import mcap
from kinema.data.lerobot import layout
from kinema.data.lerobot.reader import open_dataset

START = 1_700_000_000_000_000_000
LOSSY = 6.0
HEADER = "std_msgs/Header header\n"
END = "=" * 80 + "\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
POSE = "=" * 80 + "\nMSG: geometry_msgs/{}\n{}"
TYPES = {
    "sensor_msgs/msg/Image": HEADER
    + "uint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data\n"
    + END,
    "sensor_msgs/msg/CompressedImage": HEADER + "string format\nuint8[] data\n" + END,
    "sensor_msgs/msg/JointState": HEADER
    + "string[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n"
    + END,
    "geometry_msgs/msg/PoseStamped": HEADER
    + "geometry_msgs/Pose pose\n"
    + POSE.format("Pose", "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation\n")
    + POSE.format("Point", "float64 x\nfloat64 y\nfloat64 z\n")
    + POSE.format("Quaternion", "float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n")
    + END,
    "std_msgs/msg/Float64MultiArray": "std_msgs/MultiArrayLayout layout\nfloat64[] data\n"
    + "=" * 80
    + "\nMSG: std_msgs/MultiArrayLayout\nstd_msgs/MultiArrayDimension[] dim\nuint32 data_offset\n"
    + "=" * 80
    + "\nMSG: std_msgs/MultiArrayDimension\nstring label\nuint32 size\nuint32 stride\n",
    "std_msgs/msg/String": "string data\n",
    "sensor_msgs/msg/Temperature": HEADER + "float64 temperature\nfloat64 variance\n" + END,
}


def header(ns, frame="base"):
    return {"stamp": {"sec": ns // 10**9, "nanosec": ns % 10**9}, "frame_id": frame}


def times(rate: float, seconds: float, offset_ms: float = 0.0) -> list[int]:
    return [START + round(offset_ms * 1e6) + round(i * 1e9 / rate) for i in range(int(seconds * rate))]


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def messages(pictures, seconds=1.0):
    """Yield (topic, type, captured ns, logged ns, message): camera 30 Hz, joints 200 Hz, commands 50 Hz."""
    stamps = times(30, seconds, 3.0)
    for ns, image in zip(stamps, pictures(len(stamps), 1), strict=True):
        raw = {"height": 24, "width": 32, "encoding": "bgr8", "is_bigendian": 0, "step": 96}
        data = {"header": header(ns), **raw, "data": image[..., ::-1].tobytes()}
        yield "/front/image_raw", "sensor_msgs/msg/Image", ns, ns + 20_000_000, data
        compressed = {"header": header(ns), "format": "png", "data": png(image)}
        yield "/wrist/compressed", "sensor_msgs/msg/CompressedImage", ns, ns + 20_000_000, compressed
    for i, ns in enumerate(times(200, seconds)):
        joints = {"header": header(ns), "name": ["a", "b"], "position": [i, -i], "velocity": [0.5, 1], "effort": []}
        yield "/joint_states", "sensor_msgs/msg/JointState", ns, ns + 1_000_000, joints
        pose = {"position": {"x": i, "y": 2, "z": 3}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
        yield "/pose", "geometry_msgs/msg/PoseStamped", ns, ns, {"header": header(ns, "world"), "pose": pose}
    for i, ns in enumerate(times(50, seconds, 1.0)):
        array = {"layout": {"dim": [], "data_offset": 0}, "data": [i / 8, i / 4]}
        yield "/arm/command", "std_msgs/msg/Float64MultiArray", ns, ns, array
    yield "/instruction", "std_msgs/msg/String", START, START, {"data": "wipe the table"}
    heat = {"header": header(START), "temperature": 20.0, "variance": 0.0}
    yield "/heat", "sensor_msgs/msg/Temperature", START, START, heat


def write(path, found, *, use_chunking=True, in_order=True):
    with open(path, "wb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mcap_ros2.writer, "McapWriter", partial(McapWriter, use_chunking=use_chunking))
        writer = Writer(file, chunk_size=4096)
        schemas = {}
        for topic, kind, _, logged, message in sorted(found, key=lambda m: m[3]) if in_order else found:
            schemas.setdefault(kind, writer.register_msgdef(kind, TYPES[kind]) if kind not in schemas else None)
            writer.write_message(topic, schemas[kind], message, log_time=logged, publish_time=logged)
        writer.finish()
    return path


def filled(card):
    vectors = tuple(replace(v, units=tuple("rad" if u == "?" else u for u in v.units)) for v in card.vectors)
    action = replace(
        card.action, units=("rad", "rad"), frame="joints", kind="joint position", integrator="arm", low=(-99.0,) * 2,
        high=(99.0,) * 2, gripper=None,
    )  # fmt: skip
    return replace(card, embodiment="arm", success="all", vectors=vectors, action=action)


def test_streams_become_rows_on_one_clock(tmp_path, pictures, imported):
    source = mcap(write(tmp_path / "x.mcap", messages(pictures)))
    card = source.card
    assert card.rate_hz == 30.0 and card.instruction == "field:instruction"
    assert card.action.fields == ("arm/command",)
    vectors = {v.fields[0]: v for v in card.vectors}
    assert vectors["joint_states/position"].components == ("a", "b")
    assert vectors["pose/position"].frame == "world" and vectors["pose/position"].units == ("m",) * 3
    assert vectors["pose/orientation"].rotation == "quaternion xyzw"
    assert source.fields["heat"].dtype == "sensor_msgs/msg/Temperature"
    dataset = imported(source, filled(card))
    rows = START + 3_000_000 + np.rint(np.arange(len(dataset)) * 1e9 / 30).astype(np.int64)
    assert len(dataset) == 30
    joint_times, command_times = np.array(times(200, 1.0)), np.array(times(50, 1.0, 1.0))
    joints = np.searchsorted(joint_times, rows, side="right") - 1
    position = np.stack([joints, -joints], axis=1).astype(np.float32)
    np.testing.assert_array_equal(dataset.column("vector.joint_states_position"), position)
    commands = np.searchsorted(command_times, rows, side="right") - 1
    np.testing.assert_array_equal(dataset.column("action"), np.stack([commands / 8, commands / 4], axis=1))
    expected = pictures(30, 1)[: len(dataset)].astype(float)
    for camera in ("image_raw", "compressed"):
        assert np.abs(dataset.images(camera) - expected).mean() < LOSSY
    episode = next(iter(episodes(source, filled(card))))
    np.testing.assert_array_equal(episode.captured_ns["image.image_raw"], np.array(times(30, 1.0, 3.0))[: len(rows)])
    np.testing.assert_array_equal(episode.captured_ns["action"], command_times[commands])
    np.testing.assert_array_equal(episode.frames["image.image_raw"], pictures(30, 1)[: len(rows)])
    assert all(valid.all() for valid in episode.valid.values()) and episode.instruction == "wipe the table"


def test_images_are_read_message_by_message(tmp_path, pictures):
    """One image and one chunk at a time, however long the recording; a topic of images is never whole in memory."""
    side, count = 200, 60
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, side, side, 3), np.uint8)
    found = [m for m in messages(pictures, count / 30) if m[0] in ("/joint_states", "/arm/command", "/instruction")]
    for ns, image in zip(times(30, count / 30, 3.0), images, strict=True):
        raw = {"height": side, "width": side, "encoding": "rgb8", "is_bigendian": 0, "step": 3 * side}
        found.append(("/cam", "sensor_msgs/msg/Image", ns, ns, {"header": header(ns), **raw, "data": image.tobytes()}))
    source = mcap(write(tmp_path / "x.mcap", found))
    card = filled(source.card)
    [episode] = episodes(source, card, streamed=True)
    next(iter(episode.frames["image.cam"]))  # modules are imported, schemas parsed
    tracemalloc.start()
    [episode] = episodes(source, card, streamed=True)
    both = zip(episode.frames["image.cam"], images, strict=False)
    shown = [np.array_equal(image, expected) for image, expected in both]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(shown) == len(episode) >= count - 1 and all(shown)
    assert peak < 12 * images[0].nbytes < images.nbytes / 4
    [whole] = episodes(source, card)
    assert type(whole.frames["image.cam"]) is np.ndarray
    assert np.array_equal(whole.frames["image.cam"], images[: len(whole)])


def test_without_chunks_messages_must_be_in_order(tmp_path, pictures, imported):
    """There is no index by which to sort them, and they are not all taken into memory to be sorted."""
    source = mcap(write(tmp_path / "x.mcap", messages(pictures, 0.5), use_chunking=False))
    plain = mcap(write(tmp_path / "y.mcap", messages(pictures, 0.5)))
    [mine], [theirs] = (list(episodes(s, filled(s.card))) for s in (source, plain))
    assert mine.frames.keys() == theirs.frames.keys()
    assert all(np.array_equal(mine.frames[key], theirs.frames[key]) for key in mine.frames)
    backwards = sorted(messages(pictures, 0.5), key=lambda m: -m[3])
    source = mcap(write(tmp_path / "z.mcap", backwards, use_chunking=False, in_order=False))
    with pytest.raises(DataError, match=r"are not in order of time, and the file has no index; `mcap sort` it"):
        list(episodes(source, filled(source.card)))


def test_the_command_writes_what_the_whole_arrays_would(tmp_path, pictures, imported):
    path = write(tmp_path / "x.mcap", messages(pictures, 0.6))
    source = mcap(path)
    save(filled(source.card), tmp_path / "card.json")
    whole = imported(source, filled(source.card))
    arguments = ["--card", str(tmp_path / "card.json"), "--out", str(tmp_path / "out")]
    assert main(["data", "import", "mcap", str(path), *arguments]) == 0
    streamed = open_dataset(tmp_path / "out")
    for camera in ("image_raw", "compressed"):
        assert np.array_equal(streamed.images(camera), whole.images(camera))
        assert np.array_equal(streamed.valid(f"image.{camera}"), whole.valid(f"image.{camera}"))
    assert np.array_equal(streamed.column("action"), whole.column("action"))
    stats = [layout.read_json(d.root / layout.STATS)["observation.images.image_raw"] for d in (streamed, whole)]
    assert stats[0]["count"] == stats[1]["count"]
    np.testing.assert_allclose(stats[0]["mean"], stats[1]["mean"], atol=1e-6)


def test_a_gap_is_marked_and_never_filled_from_the_future(tmp_path, pictures):
    found = [m for m in messages(pictures) if not (m[0] == "/front/image_raw" and 300e6 < m[2] - START < 700e6)]
    source = mcap(write(tmp_path / "x.mcap", found))
    card = replace(filled(source.card), rate_hz=30.0, max_age_s=0.05)
    episode = next(iter(episodes(source, card)))
    rows = 0.003 + np.arange(len(episode)) / 30
    stale = (rows > 0.27 + 0.05) & (rows < 0.7)
    np.testing.assert_array_equal(episode.valid["image.image_raw"], ~stale)
    assert episode.valid["image.compressed"].all()
    shown = episode.frames["image.image_raw"][stale]
    assert (shown == pictures(30, 1)[8]).all()  # the last before the gap, at 270 ms


def test_a_directory_is_episodes_and_a_split_bag_is_refused(tmp_path, pictures):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.mcap", messages(pictures, 0.5))
    source = mcap(tmp_path)
    assert len(source) == 2 and source.read(0).origin == {"file": "a.mcap"}
    (tmp_path / "metadata.yaml").write_text("")
    with pytest.raises(DataError, match="is one recording in several files"):
        mcap(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"holds no \.mcap file"):
        mcap(tmp_path / "none")


def test_without_a_command_topic_the_action_is_asked_for(tmp_path, pictures):
    source = mcap(write(tmp_path / "x.mcap", [m for m in messages(pictures) if m[0] != "/arm/command"]))
    with pytest.raises(SpecMismatch, match="action: fields not said"):
        next(iter(episodes(source, source.card)))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95, 0.999])
def test_a_truncated_file_is_refused(tmp_path, pictures, kept):
    data = write(tmp_path / "x.mcap", messages(pictures, 0.3)).read_bytes()
    (tmp_path / "x.mcap").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match=r"x\.mcap: not a whole MCAP file"):
        mcap(tmp_path / "x.mcap")


def test_a_damaged_byte_is_noticed(tmp_path, pictures):
    path = write(tmp_path / "x.mcap", messages(pictures, 0.5))
    source, data = mcap(path), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(DataError):
        list(episodes(source, filled(source.card)))


@pytest.mark.parametrize(
    ("topic", "changes", "message"),
    [
        ("/front/image_raw", {"step": 97}, "2304 bytes for 24 rows of 97 bytes"),
        ("/joint_states", {"name": ["b", "a"]}, "changes its length or the order of its joints"),
        ("/joint_states", {"header": header(5)}, "time goes back after sample 9"),
        ("/wrist/compressed", {"data": b"none"}, "4 bytes are not a JPEG or PNG"),
    ],
)
def test_messages_that_change_are_refused(tmp_path, pictures, topic, changes, message):
    found, seen = [], 0
    for entry in messages(pictures, 0.5):
        seen += entry[0] == topic
        late = entry[0] == topic and seen == 11
        found.append((*entry[:4], {**entry[4], **changes}) if late else entry)
    source = mcap(write(tmp_path / "x.mcap", found))
    with pytest.raises(DataError, match=message):
        list(episodes(source, filled(source.card)))


def test_another_type_is_named_when_asked_for(tmp_path, pictures):
    source = mcap(write(tmp_path / "x.mcap", messages(pictures, 0.2)))
    with pytest.raises(DataError, match="messages of sensor_msgs/msg/Temperature, which are not read"):
        source.read(0).fields["heat"]
