"""What several of LeRobot's policies share: their cameras, and the residual network that looks through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinema.checkpoints.lerobot.directory import Directory
from kinema.checkpoints.lerobot.scaling import pixels
from kinema.checkpoints.settings import Settings, pair
from kinema.core.errors import CheckpointError
from kinema.core.transform import Transform
from kinema.nets.encoders.resnet import ResNet
from kinema.transforms.centre_crop import CentreCrop

BACKBONES = {"resnet18": 18, "resnet34": 34, "resnet50": 50}
CHANNELS, STAGES = 64, 4
"""Of torchvision's networks."""


def resnet(found: Directory, **options: Any) -> ResNet:
    """Return the encoder of the images of all cameras; raises CheckpointError for a policy that sees nothing."""
    if not found.cameras:
        raise CheckpointError(f"{found.path}: the policy sees no images, which kinema's {found.kind} needs")
    mean, deviation = pixels(found)
    layers = found.settings.choose("vision_backbone", BACKBONES)
    return ResNet(
        cameras=tuple(found.cameras), layers=layers, channels=CHANNELS, stages=STAGES, mean=mean, deviation=deviation,
        **options,
    )  # fmt: skip


def crop(settings: Settings) -> tuple[Transform, ...]:
    """Return the transform that crops images, if there is one."""
    settings.expect(resize_shape=None, crop_ratio=1.0)
    shape = settings.maybe("crop_shape", list)
    if shape is None:
        return ()
    height, width = pair(shape, f"{settings.where}: crop_shape")
    return (CentreCrop(height=height, width=width),)


def backbone_name(encoder: ResNet) -> str:
    """Return what LeRobot calls the network of `encoder`; raises CheckpointError for one that torchvision lacks."""
    for name, layers in BACKBONES.items():
        if (encoder.layers, encoder.channels, encoder.stages) == (layers, CHANNELS, STAGES):
            return name
    raise CheckpointError(
        f"LeRobot has no residual network of {encoder.layers} layers, {encoder.channels} channels and {encoder.stages} "
        f"stages; it has those of 18, 34 and 50 layers, {CHANNELS} channels and {STAGES} stages"
    )


def only(encoders: Mapping[str, Any], kinds: Mapping[str, type], policy: str) -> dict[str, Any]:
    """Return `encoders`; raises CheckpointError unless they have the names and kinds that LeRobot's `policy` has."""
    for name, encoder in encoders.items():
        if name not in kinds or not isinstance(encoder, kinds[name]):
            raise CheckpointError(f"LeRobot's {policy} has no encoder {name!r} that is a {type(encoder).__name__}")
    return dict(encoders)
