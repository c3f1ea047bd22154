"""Files written as robomimic's conversion scripts write them; the controller says what an action means."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from kinema.core.errors import DataError, SpecMismatch
from kinema.data.importers.base import episodes, spec_of
from kinema.data.importers.robomimic import robomimic

LENGTHS = (5, 3, 4)
CONTROLLER = {
    "type": "OSC_POSE", "input_max": 1, "input_min": -1, "kp": 150, "damping": 1, "control_delta": True,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5], "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "impedance_mode": "fixed", "uncouple_pos_ori": True,
}  # fmt: skip
LOSSY = 6.0


def env_args(controller=CONTROLLER, robots=("Panda",), kind=1):
    kwargs = {"robots": list(robots), "control_freq": 20, "controller_configs": controller, "reward_shaping": False}
    return {"env_name": "Lift", "type": kind, "env_version": "1.4.1", "env_kwargs": kwargs}


def demo(index: int, pictures, arms: int = 1) -> dict[str, np.ndarray]:
    rng, steps = np.random.default_rng(index), LENGTHS[index]
    rewards = np.zeros(steps)
    rewards[-1] = index != 1
    return {
        "actions": rng.uniform(-1, 1, (steps, 7 * arms)),
        "states": rng.normal(size=(steps, 9)),
        "rewards": rewards,
        "dones": np.arange(steps) == steps - 1,
        "obs/robot0_eef_pos": rng.normal(size=(steps, 3)),
        "obs/robot0_eef_quat": rng.normal(size=(steps, 4)).astype(np.float32),
        "obs/robot0_gripper_qpos": rng.normal(size=(steps, 2)),
        "obs/object": rng.normal(size=(steps, 10)),
        "obs/agentview_image": pictures(steps, index),
        "next_obs/object": rng.normal(size=(steps, 10)),
    }


@pytest.fixture
def write(tmp_path, pictures):
    """`write(**env_args)` returns a file as robomimic's dataset_states_to_obs.py lays it out."""

    def make(arms=1, **settings):
        path = tmp_path / "image.hdf5"
        with h5py.File(path, "w") as file:
            data = file.create_group("data")
            for index in (2, 0, 1):
                group = data.create_group(f"demo_{index}")
                for name, values in demo(index, pictures, arms).items():
                    group.create_dataset(name, data=values, compression="gzip" if "obs" in name else None)
                group.attrs["num_samples"] = LENGTHS[index]
                group.attrs["model_file"] = "<mujoco/>"
            data.attrs["total"] = sum(LENGTHS)
            data.attrs["env_args"] = json.dumps(env_args(**settings), indent=4)
            file.create_dataset("mask/train", data=np.array([b"demo_0", b"demo_2"]))
            file.create_dataset("mask/valid", data=np.array([b"demo_1"]))
        return path

    return make


def filled(card):
    vectors = tuple(replace(v, units=("m",) * 10, frame="world") if v.name == "object" else v for v in card.vectors)
    return replace(card, vectors=vectors, instruction="lift the cube")


def test_the_file_becomes_a_dataset(write, pictures, imported):
    source = robomimic(write())
    missing = source.card.missing()
    unit = f"vector 'object': unit of {', '.join(f'object_{i}' for i in range(10))} not said"
    assert missing == ["instruction: not said", "vector 'object': frame not said", unit]
    dataset = imported(source, filled(source.card))
    expected = [demo(index, pictures) for index in range(3)]
    for key, name in (
        ("action", "actions"), ("vector.robot0_eef_quat", "obs/robot0_eef_quat"), ("vector.object", "obs/object"),
    ):  # fmt: skip
        whole = np.concatenate([e[name] for e in expected]).astype(np.float32)
        np.testing.assert_array_equal(dataset.column(key), whole)
    whole = np.concatenate([e["obs/agentview_image"] for e in expected]).astype(float)
    assert np.abs(dataset.images("agentview_image") - whole).mean() < LOSSY
    assert [e.success for e in dataset.episodes] == [True, False, True]
    origin = {"file": "image.hdf5", "demo": "demo_1", "task": "Lift", "masks": "valid"}
    assert dataset.episodes[1].origin == origin and dataset.fps == 20


def test_osc_pose_gives_units_frame_and_gripper(write):
    source = robomimic(write())
    spec = spec_of(source, filled(source.card))
    action = spec.action
    assert action.components == ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")
    assert action.units == ("0.05 m",) * 3 + ("0.5 rad",) * 3 + ("1",)
    assert (action.low, action.high) == ((-1.0,) * 7, (1.0,) * 7)
    assert (action.kind, action.frame) == ("end-effector delta pose", "world")
    assert (action.gripper, action.rotation) == ("+1 closes, -1 opens", "rotation vector")
    vectors = {v.name: v for v in spec.observation.vectors}
    assert vectors["robot0_eef_quat"].rotation == "quaternion xyzw" and vectors["robot0_eef_quat"].components[3] == "qw"
    assert vectors["robot0_gripper_qpos"].units == ("m", "m")
    assert (spec.embodiment, spec.rate_hz) == ("panda", 20.0)


def test_absolute_poses_have_no_bounds_and_two_arms_two_grippers(write):
    card = robomimic(write(controller=CONTROLLER | {"control_delta": False})).card
    assert card.action.kind == "end-effector pose" and card.action.units[:4] == ("m", "m", "m", "rad")
    assert "action: low not said" in card.missing()
    card = robomimic(write(arms=2, robots=("Panda", "Panda"), controller=[CONTROLLER, CONTROLLER])).card
    assert card.embodiment == "panda+panda" and card.action.components[7:9] == ("robot1_dx", "robot1_dy")
    assert len(card.action.units) == 14


def test_robosuite_1_5_says_the_frame(write):
    part = {k: v for k, v in CONTROLLER.items() if k != "control_delta"}
    part |= {"input_type": "delta", "input_ref_frame": "base", "gripper": {"type": "GRIP"}}
    card = robomimic(write(controller={"type": "BASIC", "body_parts": {"right": part}})).card
    assert card.action.frame == "base" and card.action.kind == "end-effector delta pose"


@pytest.mark.parametrize(
    "settings",
    [
        {"controller": CONTROLLER | {"type": "JOINT_POSITION"}},
        {"controller": CONTROLLER | {"output_min": [-0.1] * 6}},
        {"controller": [CONTROLLER, CONTROLLER | {"kp": 3}]},
        {"controller": None},
        {"kind": 2},
    ],
)
def test_another_controller_leaves_the_action_unknown(write, settings):
    source = robomimic(write(**settings))
    assert "action: kind not said" in source.card.missing()
    with pytest.raises(SpecMismatch, match="the card does not say all that is needed"):
        spec_of(source, filled(source.card))


def test_language_of_each_demo(write):
    path = write()
    with h5py.File(path, "a") as file:
        for index in range(3):
            file[f"data/demo_{index}"].attrs["ep_meta"] = json.dumps({"lang": f"lift cube {index}"})
    source = robomimic(path)
    assert source.card.instruction == "field:ep_meta/lang"
    card = replace(filled(source.card), instruction=source.card.instruction)
    assert [e.instruction for e in episodes(source, card)] == ["lift cube 0", "lift cube 1", "lift cube 2"]


def breaks(edit):
    def apply(path):
        with h5py.File(path, "a") as file:
            edit(file)

    return apply


def external(file):
    del file["data/demo_0/obs/object"]
    file["data/demo_0/obs/object"] = h5py.ExternalLink("/etc/other.hdf5", "/x")


def soft(file):
    del file["data/demo_1"]
    file["data/demo_1"] = h5py.SoftLink("/data/demo_0")


def elsewhere(file):
    del file["data/demo_0/actions"]
    file.create_dataset("data/demo_0/actions", (5, 7), "f8", external=[("/etc/hostname", 0, 280)])


def virtual(file):
    layout = h5py.VirtualLayout((5, 7), "f8")
    layout[:] = h5py.VirtualSource("/tmp/other.hdf5", "x", shape=(5, 7))
    del file["data/demo_0/actions"]
    file.create_virtual_dataset("data/demo_0/actions", layout)


def objects(file):
    del file["data/demo_0/actions"]
    file.create_dataset("data/demo_0/actions", data=["a", "b"], dtype=h5py.string_dtype())


def unwritten(file):
    del file["data/demo_0/actions"]
    file.create_dataset("data/demo_0/actions", (5, 7), "f8", chunks=(1, 7))[:3] = 1


def shorter(file):
    values = file["data/demo_0/obs/object"][:-1]
    del file["data/demo_0/obs/object"]
    file["data/demo_0/obs/object"] = values


def huge(file):
    del file["data/demo_0/actions"]
    file.create_dataset("data/demo_0/actions", (1 << 50, 7), "f8", chunks=(1 << 20, 7))
    file["data"].attrs["total"] = (1 << 50) + 7
    file["data/demo_0"].attrs["num_samples"] = 1 << 50


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (external, r"obs/object is a link \(ExternalLink\)"),
        (soft, r"data/demo_1 is a link \(SoftLink\)"),
        (elsewhere, "its values lie in another file"),
        (virtual, "its values lie in another file"),
        (objects, "has no actions|total is 12"),
        (unwritten, "parts of it were never written; was the recording interrupted"),
        (huge, "never written|would take"),
        (shorter, "fields of different lengths"),
        (lambda f: f["data"].attrs.update(total=99), "total is 99, but the 3 demos have 12 actions"),
        (lambda f: f["data/demo_0"].attrs.update(num_samples=6), "num_samples is 6, but there are 5 actions"),
        (lambda f: f["data"].attrs.update(env_args="{"), "attribute 'env_args' is not JSON"),
        (lambda f: f["data/demo_1"].pop("actions"), "no 'actions'"),
        (lambda f: f["data/demo_1/obs"].pop("object"), "episode 1: no field 'obs/object'"),
        (lambda f: f["data"].create_group("demo_x"), "data holds 'demo_x', expected only demo_0"),
        (lambda f: f.pop("data"), "no 'data'"),
    ],
)
def test_a_broken_or_hostile_file_is_refused(write, edit, message):
    path = write()
    breaks(edit)(path)
    with pytest.raises(DataError, match=message):
        list(episodes(source := robomimic(path), filled(source.card)))


def test_a_truncated_file_is_refused(write, tmp_path):
    path = write()
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="not a whole HDF5 file"):
        robomimic(path)
    with pytest.raises(DataError, match="no such file"):
        robomimic(tmp_path / "nowhere.hdf5")
