"""FiLM begins as the identity and ends as what the instruction acts through; TokenLearner is a sum by weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import EfficientNetConfig, EfficientNetModel

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.nets.blocks import Film
from kinema.nets.ema import Ema
from kinema.nets.encoders.film_efficientnet import FilmEfficientnet, FilmEfficientnetEncoder, TokenLearner
from kinema.nets.film_tower import FilmTower

WIDTH, SIZE = 16, 48
SPEC = ObservationSpec(
    cameras=(Camera(name="front", height=SIZE, width=SIZE), Camera(name="tiny", height=24, width=40)), instruction=True
)


@pytest.fixture
def encoder() -> FilmEfficientnetEncoder:
    torch.manual_seed(0)
    return FilmEfficientnet(camera="front").build(SPEC, obs_horizon=2, width=WIDTH)


def inputs(batch: int = 3) -> tuple[dict[str, Tensor], Tensor]:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (batch, 2, SIZE, SIZE, 3), generator=rng, dtype=torch.uint8)
    return {"image.front": images}, torch.randn(batch, WIDTH, generator=rng)


@torch.no_grad()
def test_film_begins_as_the_identity(encoder: FilmEfficientnetEncoder) -> None:
    sample, condition = inputs()
    encoder.eval()
    told = encoder(sample, condition).values
    assert torch.equal(told, encoder(sample, -3 * condition).values), "no instruction changes anything"
    pixels, tower = torch.randn(2, 3, SIZE, SIZE), encoder.tower
    plain = tower.encoder(tower.embeddings(pixels)).last_hidden_state
    assert torch.equal(tower(pixels, torch.randn(2, WIDTH)), plain), "it is the EfficientNet, to the last bit"


def test_without_film_the_instruction_is_ignored(encoder: FilmEfficientnetEncoder) -> None:
    sample, condition = inputs()
    target = torch.randn(3, 16, WIDTH, generator=torch.Generator().manual_seed(2))
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for _ in range(8):
        optimiser.zero_grad()
        (encoder(sample, condition).values - target).square().mean().backward()
        optimiser.step()
    encoder.eval()
    with torch.no_grad():
        difference = encoder(sample, condition).values - encoder(sample, condition.flip(0)).values
        assert difference[0].abs().max() > 1e-2
        for part in encoder.modules():
            if isinstance(part, Film):
                nn.init.zeros_(part.project.weight)
        assert torch.equal(encoder(sample, condition).values, encoder(sample, condition.flip(0)).values)


def test_token_learner_is_a_sum_by_weights_that_add_up_to_one() -> None:
    torch.manual_seed(0)
    learn = TokenLearner(WIDTH, 3)
    values = torch.randn(2, 81, WIDTH)
    made = learn(values)
    assert made.shape == (2, 3, WIDTH)
    norm, enter, _, leave = learn.score
    normed = (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    hidden = normed @ enter.weight.T + enter.bias
    hidden = 0.5 * hidden * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
    scores = (hidden @ leave.weight.T + leave.bias).exp()
    shares = scores / scores.sum(1, keepdim=True)
    assert norm.eps == 1e-6 and torch.allclose(shares.sum(1), torch.ones(2, 3), atol=1e-5)
    by_hand = (shares[..., None] * values[:, :, None]).sum(1)
    assert torch.allclose(made, by_hand, atol=1e-5)
    order = torch.randperm(81, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(made, learn(values[:, order]), atol=1e-5), "where a point is does not matter"
    alike = values[:, :1].expand(-1, 81, -1)
    assert torch.allclose(learn(alike), alike[:, :3], atol=1e-5)


def test_published_size() -> None:
    """The paper: 16 million parameters in 26 layers with FiLM, 34 thousand in TokenLearner, 8 tokens of 512 a step."""
    with torch.device("meta"):
        spec = ObservationSpec(cameras=(Camera(name="front", height=300, width=300),))
        encoder = FilmEfficientnet(camera="front", size="b3").build(spec, obs_horizon=6, width=512)
        assert encoder.tower(torch.empty(1, 3, 300, 300), torch.empty(1, 512)).shape == (1, 1536, 10, 10)
        reference = EfficientNetModel(
            EfficientNetConfig(width_coefficient=1.2, depth_coefficient=1.4, hidden_dim=1536, depthwise_padding=[5, 18])
        )
    assert sum(p.numel() for p in encoder.parameters()) / 16e6 == pytest.approx(1.0, abs=0.02)
    assert sum(p.numel() for p in encoder.learn.parameters()) == 34_376
    assert len(encoder.tower.films) == len(encoder.tower.encoder.blocks) == 26
    assert encoder.tokens == 48 and encoder.steps == 6
    ours = {n: p.shape for n, p in encoder.tower.state_dict().items() if not n.startswith("films.")}
    assert ours == {n: p.shape for n, p in reference.state_dict().items()}
    pads = [block.depthwise_conv.depthwise_conv_pad.padding for block in encoder.tower.encoder.blocks]
    assert pads == [block.depthwise_conv.depthwise_conv_pad.padding for block in reference.encoder.blocks]


def test_statistics_move_slowly_and_signals_pass_through() -> None:
    torch.manual_seed(0)
    tower = FilmTower("small", image=(SIZE, SIZE), condition_width=None)
    norms = [part for part in tower.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) > 15 and all(norm.momentum == 0.01 and (norm.weight == 1).all() for norm in norms)
    maps = tower(torch.randn(4, 3, SIZE, SIZE), None)
    assert maps.shape == (4, 640, 6, 6) and 0.1 < maps.std() < 2.0


@pytest.mark.parametrize("size", ["small", "b3"])
def test_training_drops_nothing_and_its_statistics_are_those_of_the_batch(size: str) -> None:
    torch.manual_seed(0)
    tower, images = FilmTower(size, image=(64, 64), condition_width=None).train(), torch.randn(4, 3, 64, 64)
    stem = tower.embeddings
    made = stem.convolution(stem.padding(images))
    with torch.no_grad():
        maps = tower(images, None)
        assert torch.equal(maps, tower(images, None)), "no number is dropped"
    mean = made.mean((0, 2, 3))
    assert torch.allclose(stem.batchnorm.running_mean, (1 - 0.99**2) * mean, atol=1e-5)
    normed = (made - mean[:, None, None]) / (made.var((0, 2, 3), correction=0)[:, None, None] + 1e-3).sqrt()
    assert torch.allclose(stem(images), nn.functional.silu(normed), atol=1e-4)


def test_averaged_weights_act_with_the_statistics_of_the_last_ones() -> None:
    """Why RT-1 is best trained without an average of its weights."""
    torch.manual_seed(0)
    tower = FilmTower("small", image=(SIZE, SIZE), condition_width=None).train()
    average, optimiser = Ema(tower, 0.9999), torch.optim.Adam(tower.parameters(), lr=1e-2)
    for step in range(1, 4):
        optimiser.zero_grad()
        tower(torch.randn(4, 3, SIZE, SIZE), None).square().mean().backward()
        optimiser.step()
        average.update(tower, step)
    norm = tower.encoder.top_bn
    weight, mean = norm.weight.clone(), norm.running_mean.clone()
    with average.swapped(tower):
        assert not torch.equal(norm.weight, weight) and torch.equal(norm.running_mean, mean)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(SpecMismatch, match="camera 'tiny' is 24x40 px; expected at least 32"):
        FilmEfficientnet(camera="tiny").build(SPEC, obs_horizon=1, width=WIDTH)
    with pytest.raises(KinemaError, match="unknown film-efficientnet size 'b4'; did you mean 'b3'"):
        FilmEfficientnet(camera="front", size="b4").build(SPEC, obs_horizon=1, width=WIDTH)
    with pytest.raises(SpecMismatch, match="tokens 0, expected at least 1"):
        FilmEfficientnet(camera="front", tokens=0).build(SPEC, obs_horizon=1, width=WIDTH)
    blind = FilmEfficientnet(camera="front", condition=None).build(SPEC, obs_horizon=2, width=WIDTH)
    assert not [part for part in blind.modules() if isinstance(part, Film)]
    with pytest.raises(ValueError, match="conditioned: False, but a condition is given"):
        blind(*inputs())
