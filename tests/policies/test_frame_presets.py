"""RT-1 and Octo as wholes: what reaches the action, published sizes, and a first lesson in following words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.encoders.patches import Patches
from kinema.nets.encoders.t5 import T5
from kinema.nets.encoders.words import Words
from kinema.nets.trunks.blockwise import Blockwise
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network
from kinema.policies.octo import octo
from kinema.policies.rt1 import rt1
from kinema.transforms.resize import Resize

WORDS = Words(buckets=64)
LESSON = {"reach red": 0, "reach blue": 2}
"""The channel that each instruction is about."""


def robot_of(cameras: Mapping[str, int], actions: int) -> RobotSpec:
    seen = tuple(Camera(name=name, height=size, width=size) for name, size in cameras.items())
    action = ActionSpec(
        components=tuple(f"a{index}" for index in range(actions)), units=("m",) * actions, frame="world", kind="delta",
        integrator="c", low=(-1.0,) * actions, high=(1.0,) * actions,
    )  # fmt: skip
    observation = ObservationSpec(cameras=seen, instruction=True)
    return RobotSpec(embodiment="toy", rate_hz=3.0, observation=observation, action=action)


def network_of(config: PolicyConfig, robot: RobotSpec) -> Network:
    torch.manual_seed(0)
    return Network(config, config.needs(robot))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def lesson(rows: int, config: PolicyConfig, seed: int) -> dict[str, Any]:
    """Return pictures with a red or a blue square somewhere; the action is 0.8 if it is the one asked for, or -0.8."""
    rng = torch.Generator().manual_seed(seed)
    shown, asked = torch.randint(0, 2, (2, rows), generator=rng)
    places = torch.randint(0, 17, (rows, 2), generator=rng).tolist()
    images = torch.randint(0, 60, (rows, 32, 32, 3), generator=rng)
    for row, (y, x) in enumerate(places):
        images[row, y : y + 16, x : x + 16, list(LESSON.values())[shown[row]]] += 180
    action = torch.where(shown == asked, 0.8, -0.8)[:, None, None].expand(-1, config.pred_horizon, 1)
    return {
        "image.front": images.to(torch.uint8)[:, None].expand(-1, config.obs_horizon, -1, -1, -1),
        "instruction": [list(LESSON)[index] for index in asked],
        "action": action,
        "mask": torch.ones(rows, config.pred_horizon, dtype=torch.bool),
    }


def acted(network: Network, sample: Mapping[str, Any]) -> Tensor:
    network.eval()
    with torch.no_grad():
        context = network.context(sample, torch.Generator().manual_seed(0))
        return network.head.sample(context, rng=torch.Generator().manual_seed(0))


def follows(config: PolicyConfig, *, steps: int, lr: float) -> float:
    """Return how often the policy goes to the side that is asked for, after a short training."""
    network = network_of(config, robot_of({"front": 32}, 1))
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.2  # by default it remembers more steps than the lesson has
    optimiser, rng = torch.optim.Adam(network.parameters(), lr=lr), torch.Generator().manual_seed(0)
    for step in range(steps):
        optimiser.zero_grad()
        network.loss(lesson(32, config, step), rng).mean().backward()
        optimiser.step()
    sample = lesson(200, config, 10_000)
    right = acted(network, sample)[:, 0, 0].sign() == sample["action"][:, 0, 0].sign()
    return right.float().mean().item()


def rt1_lesson(language: Words | None) -> PolicyConfig:
    config = rt1(cameras=("front",), language=language, obs_horizon=1)
    return replace(config, width=32, trunk=replace(config.trunk, dropout=0.0))  # type: ignore[type-var]


def octo_lesson(language: Words | None) -> PolicyConfig:
    config = octo(cameras=("front",), language=language, obs_horizon=1, pred_horizon=1, exec_horizon=1)
    eye = Patches(camera="front", patch=8, channels=(8, 16, 16), embedding=32)
    return replace(
        config,
        encoders={**config.encoders, "front": eye},
        trunk=Blockwise(layers=2, heads=4, hidden=64),
        head=replace(config.head, denoiser=Mlp(hidden=64, blocks=2), draws=16),  # type: ignore[type-var]
        width=32,
    )


def test_rt1_learns_to_follow_words_and_cannot_without_film() -> None:
    assert follows(rt1_lesson(WORDS), steps=20, lr=3e-3) >= 0.9
    assert 0.35 < follows(rt1_lesson(None), steps=20, lr=3e-3) < 0.65


def test_octo_learns_to_follow_words_and_cannot_without_their_tokens() -> None:
    assert follows(octo_lesson(WORDS), steps=200, lr=1e-3) >= 0.9
    assert 0.35 < follows(octo_lesson(None), steps=200, lr=1e-3) < 0.65


def test_rt1_begins_deaf() -> None:
    """FiLM of zero weights: at first the output does not depend on the text at all."""
    config = rt1(cameras=("front",), language=WORDS, obs_horizon=2)
    network, sample = network_of(config, robot_of({"front": 32}, 3)), lesson(4, config, 0)
    other = {**sample, "instruction": ["push"] * 4}
    assert torch.equal(acted(network, sample), acted(network, other))
    for film in network.encoders["front"].tower.films:  # type: ignore[union-attr]
        nn.init.normal_(film.project.weight)
    first, second = (
        network.context(given, torch.Generator().manual_seed(0)).readout["action"] for given in (sample, other)
    )
    assert (first - second).abs().max() > 1e-3


def test_rt1_has_8_tokens_a_frame_48_in_all_and_11_numbers() -> None:
    config = rt1(cameras=("front",), language=WORDS, size="published")
    with torch.device("meta"):
        network = network_of(config, robot_of({"front": 300}, 11))
    eye = network.encoders["front"]
    assert (eye.tokens, eye.steps, len(network.trunk.order)) == (48, 6, 48)
    assert network.trunk.readouts == 11 == network.head.count and network.head.shape == (1, 11, 256)
    # Appendix C.1 and section 5.1 of the paper: 16 million in the images' network, 19 in the transformer, 35 in all.
    assert count(eye) == pytest.approx(16e6, rel=0.02)
    parts = count(eye) + count(network.trunk) + count(network.head)
    assert parts == pytest.approx(35e6, rel=0.02), "without the sentence encoder, which is frozen"
    assert config.transforms[0] == Resize(height=300, width=300)


def test_rt1_says_when_an_action_has_more_numbers_than_readouts() -> None:
    config = rt1(cameras=("front",), language=WORDS, readouts=2, obs_horizon=1)
    network = network_of(config, robot_of({"front": 32}, 3))
    with pytest.raises(KinemaError, match="3 numbers want a readout token each, got 2"):
        acted(network, lesson(2, config, 0))


def test_octo_does_not_see_a_hidden_camera() -> None:
    config = octo(cameras=("front", "wrist"), language=WORDS, camera_dropout=0.999)
    network = network_of(config, robot_of({"front": 32, "wrist": 32}, 2))
    sample = lesson(2, config, 0)
    sample["image.wrist"] = sample["image.front"]
    changed = {**sample, "image.wrist": 255 - sample["image.wrist"]}
    rng = torch.Generator()

    def readout(given: Mapping[str, Any]) -> Tensor:
        return network.context(given, rng.manual_seed(0)).readout["action"]

    network.train()
    network.encoders["front"].dropout = 0.0
    assert torch.equal(readout(sample), readout(changed)), "training hides the wrist"
    network.eval()
    assert (readout(sample) - readout(changed)).abs().max() > 1e-3


def test_octo_can_be_given_another_readout() -> None:
    config = octo(cameras=("front",), language=WORDS)
    more = replace(config, trunk=replace(config.trunk, readouts={"action": 1, "value": 4}))  # type: ignore[type-var]
    robot = robot_of({"front": 32}, 2)
    before, after = network_of(config, robot).eval(), network_of(more, robot).eval()
    missing, unexpected = after.load_state_dict(before.state_dict(), strict=False)
    assert missing == ["trunk.positions.readout_value"] and not unexpected
    sample = lesson(2, config, 0)
    assert torch.allclose(acted(before, sample), acted(after, sample), atol=1e-5)


@pytest.mark.parametrize(("size", "millions"), [("published_small", 27), ("published_base", 93)])
def test_octo_has_its_published_size(size: str, millions: float, tiny_t5: Any) -> None:
    """The model cards say 27 and 93 million: transformer, image and text projections and head, without T5-base."""
    language = T5(model=str(tiny_t5(768)))
    config = octo(cameras=("primary", "wrist"), language=language, size=size)
    with torch.device("meta"):
        network = network_of(config, robot_of({"primary": 256, "wrist": 128}, 7))
    assert count(network) == pytest.approx(millions * 1e6, rel=0.02)
    assert network.encoders["instruction"].tokens == 16 and network.trunk.reads.shape == (16 + 2 * 320 + 2,) * 2


def test_unknown_sizes_are_named() -> None:
    with pytest.raises(KinemaError, match=r"unknown octo size 'published_bas'; did you mean 'published_base'"):
        octo(cameras=("front",), size="published_bas")
    with pytest.raises(KinemaError, match=r"unknown rt1 size 'publish'; did you mean 'published'"):
        rt1(cameras=("front",), size="publish")
