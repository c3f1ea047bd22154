"""What the readouts of the residual network are made of, and how steps and cameras are laid out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.nets.detr import fixed_grid
from kinema.nets.encoders.film_cnn import spatial_softmax
from kinema.nets.encoders.resnet import Keypoints, ResNet, ResNetEncoder

SPEC = ObservationSpec(cameras=(Camera(name="left", height=48, width=32), Camera(name="right", height=32, width=32)))
SMALL: dict[str, Any] = {"layers": 10, "channels": 16, "stages": 3}
WIDTH = 8


def made(steps: int, *, width: int = WIDTH, **changes: Any) -> ResNetEncoder:
    torch.manual_seed(0)
    config = ResNet(**{"cameras": ("left", "right"), **SMALL, **changes})
    return config.build(SPEC, obs_horizon=steps, width=width).eval()


def sample(steps: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = {camera.key: (2, steps, camera.height, camera.width, 3) for camera in SPEC.cameras}
    return {key: torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8) for key, shape in shapes.items()}


@pytest.mark.parametrize(("readout", "points"), [("tokens", (6, 4)), ("spatial_softmax", (1, 1)), ("mean", (1, 1))])
@torch.no_grad()
def test_tokens_are_in_the_order_of_steps_and_in_each_of_cameras(readout: str, points: tuple[int, int]) -> None:
    encoder, given = made(3, readout=readout), sample(3)
    assert encoder.tokens == 3 * sum(points) and encoder.steps == 3
    before = encoder(given, None).values.unflatten(1, (3, -1))
    for step in range(3):
        for camera, key in enumerate(given):
            changed = {name: value.clone() for name, value in given.items()}
            changed[key][:, step] = 255 - changed[key][:, step]
            moved = (encoder(changed, None).values.unflatten(1, (3, -1)) - before).abs().amax((0, 3)) > 1e-6
            wanted = torch.zeros(3, sum(points), dtype=torch.bool)
            wanted[step, sum(points[:camera]) : sum(points[: camera + 1])] = True
            assert torch.equal(moved, wanted)


def test_cameras_share_weights() -> None:
    one, both = made(1, cameras=("right",)), made(1)
    assert {n: p.shape for n, p in one.named_parameters()} == {n: p.shape for n, p in both.named_parameters()}
    given = sample(1)
    given["image.left"] = torch.cat([given["image.right"], given["image.right"][:, :, :16]], dim=2)
    assert torch.equal(one(given, None).values, both(given, None).values[:, 6:])


def test_points_are_placed_by_sines_of_row_and_column() -> None:
    placed = fixed_grid(2, 3, 8, torch.device("cpu"))
    for row in range(2):
        for column in range(3):
            wanted = []
            for place, count in ((row + 1, 2), (column + 1, 3)):
                angle = place / (count + 1e-6) * 2 * math.pi
                for rate in (1.0, 10000.0 ** (2 / 4)):
                    wanted += [math.sin(angle / rate), math.cos(angle / rate)]
            assert placed[3 * row + column].tolist() == pytest.approx(wanted, abs=1e-6)
    positions = made(2)(sample(2), None).positions
    assert positions is not None and positions.shape == (20, WIDTH)
    assert torch.equal(positions[:10], positions[10:]) and torch.equal(
        positions[6:10], fixed_grid(2, 2, 8, placed.device)
    )
    with pytest.raises(KinemaError, match="width 6 must be a multiple of 4"):
        made(1, width=6)
    for readout in ("spatial_softmax", "mean"):
        encoder = made(2, width=6, readout=readout)
        assert encoder(sample(2), None).positions is None and not dict(encoder.named_buffers())


def test_steps_are_told_apart_by_what_is_learnt() -> None:
    encoder, given = made(2), sample(2)
    given = {key: value[:, :1].expand(-1, 2, -1, -1, -1) for key, value in given.items()}
    assert encoder.step is not None and made(1).step is None
    first, second = encoder(given, None).values.chunk(2, dim=1)
    assert torch.equal(first, second)
    torch.nn.init.normal_(encoder.step)
    first, second = encoder(given, None).values.chunk(2, dim=1)
    assert (first - second).abs().min() > 1e-4


def test_keypoints_are_coordinates_side_by_side_through_a_layer() -> None:
    torch.manual_seed(0)
    read = Keypoints(3, 4, 8)
    features = torch.randn(2, 3, 5, 6)
    located = spatial_softmax(read.heatmaps(features), read.heatmaps(features))
    x, y = located[:, :4], located[:, 4:8]
    points = torch.stack([x, y], dim=-1).flatten(1)
    assert torch.allclose(read(features)[:, 0], torch.relu(points @ read.out.weight.T + read.out.bias), atol=1e-6)
    assert sum(p.numel() for p in read.parameters()) == (3 * 4 + 4) + (8 * 8 + 8)
    assert Keypoints(3, 4, 10)(features).shape == (2, 1, 10)


def test_pixels_are_scaled_by_mean_and_deviation() -> None:
    encoder, given = made(1, cameras=("right",), mean=(0.1, 0.2, 0.3), deviation=(0.5, 0.25, 2.0)), sample(1)
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(given, None)
    pixel = given["image.right"][1, 0, 5, 7]
    wanted = [(pixel[0] / 255 - 0.1) / 0.5, (pixel[1] / 255 - 0.2) / 0.25, (pixel[2] / 255 - 0.3) / 2.0]
    assert seen[0][1, :, 5, 7].tolist() == pytest.approx([value.item() for value in wanted], abs=1e-6)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(SpecMismatch, match="camera 'right' is at most 32 px high and wide, so that after 4 stages"):
        made(1, readout="spatial_softmax", stages=4)
    with pytest.raises(KinemaError, match="unknown resnet readout 'token'; did you mean 'tokens'"):
        made(1, readout="token")
    with pytest.raises(SpecMismatch, match="resnet needs one camera"):
        made(1, cameras=())
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.lft'; did you mean 'image\.left'"):
        made(1, cameras=("lft",))
