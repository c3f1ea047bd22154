"""Every encoder keeps the contract of `kinema.nets.base.Encoder`, and one that does not is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.core.config import from_data, to_data
from kinema.core.errors import SpecMismatch
from kinema.core.names import members
from kinema.core.spec import ObservationSpec, RobotSpec
from kinema.nets.base import Encoder, EncoderConfig

WIDTH, BATCH, STEPS = 16, 3, 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """A configuration, its encoder and what it is given."""

    config: EncoderConfig
    spec: ObservationSpec
    encoder: Encoder
    sample: Mapping[str, Any]
    condition: Tensor | None

    def tokens(self, sample: Mapping[str, Any] | None = None, condition: Tensor | None = None) -> Tensor:
        given = self.condition if condition is None else condition
        made = self.encoder(self.sample if sample is None else sample, given)
        if made.ids is None:
            return made.values
        # What a trunk would read for the words.
        table = torch.randn(self.encoder.vocabulary, WIDTH, generator=torch.Generator().manual_seed(5))
        return torch.where(made.ids[..., None] >= 0, table[made.ids.clamp(min=0)], made.values)


class Keys(dict[str, Any]):
    """A sample that remembers which keys were read."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def items(self) -> Any:
        raise AssertionError("an encoder reads its keys, not whatever is there")


def part(sample: Mapping[str, Any], which: slice) -> dict[str, Any]:
    return {key: value[which] for key, value in sample.items()}


def train(case: Case, steps: int) -> None:
    """Take a few steps towards tokens that depend on the condition, which opens zero-initialised gates."""
    target = torch.randn(case.tokens().shape, generator=torch.Generator().manual_seed(4))
    optimiser = torch.optim.Adam(case.encoder.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        (case.tokens() - target).square().mean().backward()
        optimiser.step()


def check_shape(case: Case) -> None:
    encoder, made = case.encoder, case.encoder(case.sample, case.condition)
    assert made.values.shape == (BATCH, encoder.tokens, WIDTH) and made.values.dtype == torch.float32
    assert torch.isfinite(made.values).all()
    assert made.mask.shape == made.values.shape[:2] and made.mask.dtype == torch.bool
    assert encoder.padded or made.mask.all(), "tokens are absent of an encoder that is not `padded`"
    assert encoder.tokens % (max(1, encoder.steps) * encoder.cameras) == 0
    assert (made.positions is not None) == encoder.placed
    assert made.positions is None or made.positions.shape == made.values.shape[1:]
    assert (made.ids is not None) == (encoder.vocabulary > 0)
    if made.ids is not None:
        assert made.ids.shape == made.mask.shape and made.ids.dtype == torch.int64
        assert made.ids.min() >= -1 and made.ids.max() < encoder.vocabulary
    assert encoder.steps in (0, STEPS) and encoder.tokens % max(1, encoder.steps) == 0


def check_batch_of_one_equals_a_row(case: Case) -> None:
    case.encoder.eval()
    together = case.tokens()
    for index in range(BATCH):
        row = slice(index, index + 1)
        alone = case.tokens(part(case.sample, row), None if case.condition is None else case.condition[row])
        assert torch.allclose(alone[0], together[index], atol=1e-5), "a row depends on its neighbours"


def check_every_parameter_learns(case: Case) -> None:
    if not list(case.encoder.parameters()):
        return
    train(case, 2)
    case.encoder.zero_grad()
    tokens = case.tokens()
    (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    idle = [name for name, p in case.encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle, f"no gradient reaches {idle}"


def check_reads_what_it_says(case: Case) -> None:
    sample = Keys(case.sample)
    case.tokens(sample)
    assert sample.read == set(case.config.reads), f"says {case.config.reads}, reads {sorted(sample.read)}"


def check_input_matters(case: Case) -> None:
    case.encoder.eval()
    reversed_rows = {
        key: value[::-1] if isinstance(value, list) else value.flip(0) for key, value in case.sample.items()
    }
    assert (case.tokens() - case.tokens(reversed_rows))[0].abs().max() > 1e-4, "different inputs, same tokens"


def check_missing_observations_are_refused(case: Case) -> None:
    rest = tuple(key for key in case.spec.keys if key not in case.config.reads)
    with pytest.raises(SpecMismatch, match="no observation '"):
        case.config.build(case.spec.select(rest), obs_horizon=STEPS, width=WIDTH)


def check_condition_is_used_or_refused(case: Case) -> None:
    if case.condition is None:
        with pytest.raises(SpecMismatch, match="takes no condition"):
            replace(case.config, condition="instruction").build(case.spec, obs_horizon=STEPS, width=WIDTH)
        return
    train(case, 10)
    case.encoder.eval()
    difference = (case.tokens() - case.tokens(condition=case.condition.flip(0)))[0].abs().max()
    assert difference > 1e-3, "the condition changes nothing"
    with pytest.raises(ValueError, match="not given"):
        case.encoder(case.sample, None)


def check_configuration_round_trip(case: Case) -> None:
    assert from_data(to_data(case.config)) == case.config


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


@pytest.fixture
def case_of(
    robot: RobotSpec, observe: Callable[..., Any], configure: Callable[[str, str], Any], built: Callable[..., Any]
) -> Callable[[str], Case]:
    def build(name: str) -> Case:
        config = configure("encoder", name)
        assert isinstance(config, EncoderConfig)
        encoder = built(lambda: config.build(robot.observation, obs_horizon=STEPS, width=WIDTH))
        sample = {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in observe(BATCH, STEPS).items()
        }
        condition = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(2))
        given = condition if config.condition is not None else None
        return Case(config=config, spec=robot.observation, encoder=encoder, sample=sample, condition=given)

    return build


@pytest.mark.parametrize("name", members("encoder"))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_encoder(check: Callable[[Case], None], name: str, case_of: Callable[[str], Case]) -> None:
    check(case_of(name))


PLANTED = """
from dataclasses import dataclass
import torch
from torch import nn
from kinema.nets.base import Encoder, EncoderConfig, Tokens

@dataclass(frozen=True, kw_only=True)
class Planted(EncoderConfig):
    condition: str | None = "instruction"
    reads = ("vector.proprioception",)

    def build(self, spec, *, obs_horizon, width):
        return PlantedEncoder(obs_horizon * 3, width)

class PlantedEncoder(Encoder):
    tokens = 1

    def __init__(self, inputs, width):
        super().__init__()
        self.layer = nn.Linear(inputs, width)
        self.forgotten = nn.Parameter(torch.zeros(width))

    def forward(self, sample, condition):
        values = sample["vector.proprioception"].flatten(1) + len(sample["instruction"])
        return Tokens.present(self.layer(values - values.mean(0))[:, None])
"""


def test_a_planted_encoder_is_discovered_and_every_fault_found(
    plant: Callable[[str, str, str], None], case_of: Callable[[str], Case]
) -> None:
    plant("encoder", "planted", PLANTED)
    assert "planted" in members("encoder")
    case = case_of("planted")
    check_shape(case)
    with pytest.raises(AssertionError, match="depends on its neighbours"):
        check_batch_of_one_equals_a_row(case)
    with pytest.raises(AssertionError, match=r"no gradient reaches .*forgotten"):
        check_every_parameter_learns(case)
    with pytest.raises(AssertionError, match=r"reads .*instruction"):
        check_reads_what_it_says(case)
    with pytest.raises(AssertionError, match="condition changes nothing"):
        check_condition_is_used_or_refused(case)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_missing_observations_are_refused(case)
