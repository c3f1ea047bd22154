"""`kinema data mix`, and training on what it showed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("av")

from kinema.cli.main import main
from kinema.core.episode import Episode
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.writer import DatasetWriter

RECIPE = """
from kinema.heads.regression import Regression
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import PolicyConfig
from kinema.recipes.base import DataConfig, Recipe
from kinema.train.config import TrainConfig
from kinema.train.optim import OptimConfig


def mixed():
    policy = PolicyConfig(
        encoders={"position": Proprioception(hidden=4)}, trunk=Fusion(blocks=1), head=Regression(blocks=1), width=8,
        pred_horizon=2, exec_horizon=1,
    )
    train = TrainConfig(
        steps=4, batch_size=4, optim=OptimConfig(warmup_steps=1), checkpoint_every=2, evaluate_every=0, log_every=1
    )
    return Recipe(policy=policy, train=train, data=DataConfig(held_out_fraction=0.0))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datasets viola (2 x 5 frames) and bc_z (6 x 5 frames) of one robot."""
    spec = RobotSpec(
        embodiment="arm",
        rate_hz=10.0,
        observation=ObservationSpec(
            cameras=(Camera(name="front", height=16, width=16),),
            vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),),
        ),
        action=ActionSpec(
            components=("dx",), units=("m",), frame="world", kind="delta", integrator="controller",
            low=(-9.0,), high=(9.0,),
        ),
    )  # fmt: skip
    root, rng = tmp_path_factory.mktemp("mix"), np.random.default_rng(0)
    for name, episodes in (("viola", 2), ("bc_z", 6)):
        writer = DatasetWriter(root / name, spec)
        for index in range(episodes):
            frames = {
                "image.front": np.full((5, 16, 16, 3), 9 * index, np.uint8),
                "vector.proprioception": rng.normal(size=(5, 1)).astype(np.float32),
                "action": rng.normal(size=(5, 1)).astype(np.float32),
            }
            writer.append(Episode(instruction="go", frames=frames, success=True, origin={"episode": index}))
    (root / "recipe_of_mixtures.py").write_text(RECIPE, "utf-8")
    return root


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = (data / "viola", data / "bc_z")
    code, shown = run(capsys, "data", "mix", *both, "--weights", "oxe-magic-soup", "--batch-size", 100)
    assert code == 0
    # 2 * 10 against 0.2 * 30 frames: 20/26 and 6/26 of the samples.
    assert [line.split() for line in shown.splitlines()[1:]] == [
        ["viola", "10", "0.7692", "3.08x", "76.92", "7.69e+04"],
        ["bc_z", "30", "0.2308", "0.308x", "23.08", "7.69e+03"],
    ]
    code, shown = run(capsys, "data", "mix", *both, "--alpha", 0.5)
    assert code == 0 and "0.3660" in shown and "0.6340" in shown, "sqrt(10) / (sqrt(10) + sqrt(30))"
    code, shown = run(capsys, "data", "mix", *both, "--weights", 1, 3, "--weights-mean", "replace")
    assert code == 0 and "0.2500" in shown and "48.00" in shown


def test_wrong_input(data: Path, capsys: pytest.CaptureFixture[str], short: Callable[[str], str]) -> None:
    both = (data / "viola", data / "bc_z")
    for options, message in (
        (("--weights", 1, 3), "say whether they multiply"),
        (("--weights", "oxe-magic-soap"), "did you mean 'oxe-magic-soup'"),
        (("--alpha", 3), "alpha 3.0"),
        ((data / "nowhere",), "no such directory"),
    ):
        code, said = run(capsys, "data", "mix", *both, *options)
        assert code == 2 and message in short(said)


def test_training_on_both(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(data))
    viola, bc_z = open_dataset(data / "viola"), open_dataset(data / "bc_z")
    left_out = tmp_path / "out.json"
    left_out.write_text(json.dumps({"dataset": bc_z.content_hash, "episodes": [4]}), "utf-8")
    options = ("--data.weights", 1, 1, "--data.weights-mean", "replace", "--data.exclude", left_out)
    both = f"{data / 'viola'},{data / 'bc_z'}"
    command = ("train", "recipe_of_mixtures:mixed", "--data", both, "--out", tmp_path / "run", *options)
    code, said = run(capsys, *command)
    assert code == 0, said
    told = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["data"]
    assert [(part["content_hash"], part["share"]) for part in told["parts"]] == [
        (viola.content_hash, 0.5),
        (bc_z.content_hash, 0.5),
    ]
    assert told["episodes"] == 8 and told["frames"] == 40 and told["excluded_episodes"] == [2 + 4]
    resumed = ("train", "recipe_of_mixtures:mixed", "--data", both, "--out", tmp_path / "resumed", *options)
    assert "after 1 steps" in run(capsys, *resumed, "--train.max-minutes", 1e-7)[1]
    assert "after 4 steps" in run(capsys, *resumed)[1]
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("run", "resumed")]
    assert weights[0] == weights[1], "a run that stopped goes on as one that never did"
    left_out.write_text(json.dumps({"dataset": bc_z.content_hash, "episodes": [3]}), "utf-8")
    code, said = run(capsys, *command)
    assert code == 2 and "excluded_episodes: [5], before [6]" in said
    code, said = run(capsys, "train", "recipe_of_mixtures:mixed", "--data", f"{viola.root},{viola.root}", "--out", "x")
    assert code == 2 and "hold the same data" in said
