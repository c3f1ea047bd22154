"""From files on disk to a dataset: a video of finger tags, a trajectory, a rig, one command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from kinema.actions import poses, rotations  # noqa: E402 - after the optional package
from kinema.cli.main import main  # noqa: E402
from kinema.core.config import load, save  # noqa: E402
from kinema.core.errors import DataError  # noqa: E402
from kinema.core.transform import Chain  # noqa: E402
from kinema.data.lerobot.reader import open_dataset  # noqa: E402
from kinema.data.umi.rig import Latency, Lens, Rig  # noqa: E402
from kinema.data.umi.session import frames, read_demonstration, recordings  # noqa: E402
from kinema.data.umi.synthetic import Motion  # noqa: E402
from kinema.data.video import encode_mp4_bytes  # noqa: E402
from kinema.data.windows import Windows  # noqa: E402
from kinema.transforms.relative_action import RelativeAction  # noqa: E402

HEIGHT, WIDTH, FOCAL, DEPTH_M, TAG_M = 200, 360, 200.0, 0.1, 0.016
FPS, DURATION_S = 30.0, 2.0


def facing_tags(distance_m: float) -> np.ndarray:
    """Return what a pinhole camera sees of two tags that face it: squares of focal * size / depth pixels."""
    fine = np.full((4 * HEIGHT, 4 * WIDTH), 120, np.uint8)
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    side = round(4 * FOCAL * TAG_M / DEPTH_M)
    border = side // 8
    for number, sign in ((0, -1), (1, 1)):
        x = round(4 * (WIDTH / 2 + sign * FOCAL * distance_m / 2 / DEPTH_M) - side / 2)
        y = 4 * 110 - side // 2
        fine[y - border : y + side + border, x - border : x + side + border] = 255
        fine[y : y + side, x : x + side] = cv2.aruco.generateImageMarker(dictionary, number, side)
    picture = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.repeat(picture[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def own_rig(rig: Rig) -> Rig:
    lens = Lens(height=HEIGHT, width=WIDTH, focal_px=(FOCAL, FOCAL), centre_px=((WIDTH - 1) / 2, (HEIGHT - 1) / 2))
    return replace(rig, lens=lens, latency=Latency(), rate_hz=10.0, image_px=48)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, own_rig: Rig) -> Path:
    root = tmp_path_factory.mktemp("umi") / "session"
    for name in ("demo-a", "demo-b", "demo-lost"):
        folder = root / name
        folder.mkdir(parents=True)
        motion, time_s = Motion(seed=len(name)), np.arange(0, DURATION_S, 1 / FPS)
        video = np.stack([facing_tags(0.05 + width) for width in motion.width(time_s)])
        (folder / "raw_video.mp4").write_bytes(encode_mp4_bytes(video, FPS))
        lines = ["frame_idx,timestamp,state,is_lost,is_keyframe,x,y,z,q_x,q_y,q_z,q_w"]
        for index, (at_s, T) in enumerate(zip(time_s, motion.pose(time_s), strict=True)):
            w, x, y, z = rotations.quaternion_wxyz_from_matrix(T[:3, :3])
            values = ",".join(f"{v:.9f}" for v in (*T[:3, 3], x, y, z, w))
            lost = name == "demo-lost" and 20 <= index < 40
            lines.append(f"{index},{at_s:.6f},2,{'true' if lost else 'false'},false,{values}")
        (folder / "camera_trajectory.csv").write_text("\n".join(lines) + "\n", "utf-8")
    save(own_rig, root / "rig.json")
    return root


def test_a_recording_is_read(session: Path, own_rig: Rig) -> None:
    folder = recordings(session)[0]
    read = read_demonstration(folder, own_rig, "wave")
    assert read.images.shape == (60, 48, 48, 3)
    np.testing.assert_allclose(read.image_time_s, np.arange(60) / FPS, atol=1e-4)
    truth = Motion(seed=6).width(read.width_time_s)
    assert np.isfinite(read.width_m).mean() > 0.9
    assert 1e3 * np.nanmax(np.abs(read.width_m - truth)) <= 2.0


def test_the_command_writes_the_good_ones(
    session: Path, own_rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dataset"
    told = ["--rig", str(session / "rig.json"), "--instruction", "wave", "--out", str(out)]
    command = ["data", "umi", str(session), *told]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "demo-lost: refused, tracking lost at 0.63 s: 0.7 s, above 0.2" in printed
    assert "2 of 3 recordings kept" in printed
    dataset = open_dataset(out)
    assert len(dataset.episodes) == 2 and dataset.spec == own_rig.spec
    first = slice(dataset.episodes[0].start, dataset.episodes[0].start + dataset.episodes[0].length)
    at_s = np.arange(dataset.episodes[0].length) * 0.1
    seen = poses.from_vector(dataset.column("vector.hand")[first])
    truth = Motion(seed=6).pose(at_s) @ own_rig.T_camera_hand
    assert 1e3 * np.abs(seen - truth)[:, :3, 3].max() <= 1.0
    assert main(command) == 0 and len(open_dataset(out).episodes) == 2, "the same command again adds nothing"
    save(replace(own_rig, latency=Latency(pose_s=0.01)), tmp_path / "other.json")
    assert main([word.replace(str(session / "rig.json"), str(tmp_path / "other.json")) for word in command]) == 2
    assert "was made with another rig" in capsys.readouterr().err
    batch = Windows(dataset, obs_horizon=1, pred_horizon=4).batch(np.arange(5))
    chain = Chain((RelativeAction(pose="hand"),))
    relative, memo = chain.forward(batch)
    assert np.abs(relative["action"][..., :3]).max() < 0.2
    np.testing.assert_allclose(chain.inverse(relative["action"], memo), batch["action"], atol=1e-6)


def test_the_rig_is_a_file(session: Path, own_rig: Rig) -> None:
    assert load(session / "rig.json") == own_rig


def test_what_is_missing_is_named(tmp_path: Path, own_rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="holds no recordings"):
        recordings(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "a.mp4").write_bytes(b"no video")
    with pytest.raises(
        DataError, match=r"holds 0 trajectories, expected one of: camera_trajectory\.csv, trajectory\.txt"
    ):
        read_demonstration(tmp_path / "demo", own_rig, "wave")
    with pytest.raises(DataError, match="is not a complete video"):
        next(frames(tmp_path / "demo" / "a.mp4"))
    save(own_rig.lens, tmp_path / "lens.json")
    wrong = ["data", "umi", str(tmp_path), "--rig", str(tmp_path / "lens.json"), "--instruction", "x", "--out", "y"]
    assert main(wrong) == 2
    assert "describes a Lens, expected a Rig" in capsys.readouterr().err
