"""FAST is fitted to the training chunks as the head gets them, stored with the policy and used when it acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.actions.codec import without_padding
from kinema.actions.fast import FAST, UnfittedFAST
from kinema.core.config import save
from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.core.transform import Chain
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.windows import Windows
from kinema.deploy.load import POLICY_FILE, WEIGHTS_FILE, StoredPolicy, load_stored
from kinema.heads.autoregressive import Autoregressive
from kinema.nets.ema import named_weights
from kinema.policies.base import ComposedPolicy, PolicyConfig
from kinema.policies.film_flow import film_flow
from kinema.policies.network import Network
from kinema.policies.pi0_fast import pi0_fast
from kinema.recipes import _fitting
from kinema.recipes.base import DataConfig, Recipe, prepare
from kinema.sim.collect import Collection, attempt
from kinema.sim.suites.lang_reach import CAMERA, LangReach
from kinema.train.config import TrainConfig
from kinema.train.loop import fit
from kinema.train.optim import OptimConfig
from kinema.train.weights import save_weights

RECIPE = Recipe(
    policy=pi0_fast(cameras=(CAMERA,), state="hand", words=80, pred_horizon=8, exec_horizon=4),
    train=TrainConfig(
        steps=4, batch_size=4, optim=OptimConfig(warmup_steps=1), precision="fp32", checkpoint_every=4, ema_decay=0.0
    ),
    data=DataConfig(held_out_fraction=0.3),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    suite, root = LangReach(), tmp_path_factory.mktemp("lang-reach") / "data"
    writer, environment = DatasetWriter(root, suite.spec), suite.make()
    for task in suite.tasks:
        for number in range(4):
            collection = Collection(tasks=(task,), episodes=4, noise=0.3)
            kept = attempt(environment, suite, Start(task=task, seed=0, episode=number), collection).episode
            assert kept is not None
            writer.append(kept)
    return open_dataset(root)


def as_the_head_gets_them(policy: PolicyConfig, dataset: Dataset, episodes: tuple[int, ...]) -> np.ndarray:
    keys = ("vector.hand", "instruction")
    windows = Windows(dataset, keys=keys, obs_horizon=1, pred_horizon=8, episodes=episodes)
    after, _ = Chain(policy.transforms).forward(windows.batch(np.arange(len(windows))))
    return without_padding(after["action"], after["mask"])


@pytest.mark.filterwarnings("ignore:.*sampled rows of tokens are no chunk")
def test_pi0_fast_is_prepared_trained_stored_and_acts(dataset: Dataset, tmp_path: Path) -> None:
    prepared = prepare(RECIPE, dataset)
    codec = prepared.policy.head.codec
    assert isinstance(codec, FAST) and isinstance(RECIPE.policy.head.codec, UnfittedFAST), "the recipe stays as it was"
    chunks = as_the_head_gets_them(prepared.policy, dataset, prepared.train_episodes)
    assert len(prepared.held_out_episodes) == 3 and len(chunks) > 80
    assert codec == FAST.fit(list(chunks), scale=10.0, vocabulary=512)
    assert prepare(RECIPE, dataset).policy.head.codec == codec, "a run that goes on has the same words"
    error = np.abs(codec.decode_chunks(codec.encode_chunks(chunks), pred_horizon=8, action_width=2)[0] - chunks)
    assert error.max() <= 0.05 * np.sqrt(8) + 1e-9 and np.sqrt((error**2).mean()) <= 1 / (10 * np.sqrt(12))
    result = fit(prepared.network, prepared.batches, RECIPE.train, tmp_path / "run", held_out=prepared.held_out)
    assert np.isfinite(result.loss)
    save(StoredPolicy(spec=prepared.spec, policy=prepared.policy), tmp_path / POLICY_FILE)
    stored = load_stored(tmp_path)
    assert stored.policy.head == prepared.policy.head
    network = Network(stored.policy, stored.spec)
    network.load_state_dict(prepared.network.state_dict())
    seen = {
        "image.table": np.array(dataset.images(CAMERA)[:2, None]),
        "vector.hand": np.zeros((2, 1, 2), np.float32),
        "instruction": ["reach the red target", "reach the blue target"],
    }
    trained, restored = (
        ComposedPolicy(policy, stored.spec, network).act(seen).action
        for policy, network in ((prepared.policy, prepared.network), (stored.policy, network))
    )
    assert trained.shape == (2, 8, 2) and np.array_equal(trained, restored)
    save_weights(named_weights(prepared.network), tmp_path / WEIGHTS_FILE)
    again = replace(RECIPE, start=str(tmp_path))
    assert prepare(again, dataset).policy.head.codec == codec, "the same data say the same"
    other = replace(again, train=replace(RECIPE.train, seed=5))
    with pytest.raises(KinemaError, match=r"another FAST than this recipe.*\nfix: give the head the codec of that run"):
        prepare(other, dataset)
    kept = replace(other, policy=replace(RECIPE.policy, head=replace(RECIPE.policy.head, codec=codec)))
    assert prepare(kept, dataset).policy.head.codec == codec


def test_a_small_decoder_of_its_own_is_fitted_too(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = film_flow(cameras=(CAMERA,), head=Autoregressive(codec=UnfittedFAST(vocabulary=256)), pred_horizon=8)
    encoders = {CAMERA: policy.encoders[CAMERA], "instruction": policy.encoders["instruction"]}
    [scale] = policy.transforms
    policy = replace(
        policy, encoders=dict(reversed(encoders.items())), transforms=(replace(scale, modes={"action": "min_max"}),)
    )
    recipe = replace(RECIPE, policy=policy)
    prepared = prepare(recipe, dataset)
    chunks = as_the_head_gets_them(prepared.policy, dataset, prepared.train_episodes)
    assert prepared.policy.head.codec == FAST.fit(list(chunks), scale=10.0, vocabulary=256)
    monkeypatch.setattr(_fitting, "_FITTED_CHUNKS", 50)
    every = 1 + len(chunks) // 50
    some = prepare(recipe, dataset).policy.head.codec
    assert some == FAST.fit(list(chunks[::every]), scale=10.0, vocabulary=256), "many chunks are fitted to a part"


def test_without_training_data_there_is_no_tokenizer(dataset: Dataset) -> None:
    spec = RECIPE.policy.needs(dataset.spec)
    with pytest.raises(KinemaError, match="UnfittedFAST: the tokenizer is not fitted to any chunks yet"):
        Network(RECIPE.policy, spec)
