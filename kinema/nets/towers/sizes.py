"""What an image transformer is: its family and size, and those of published systems."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from kinema.core.errors import KinemaError, unknown
from kinema.nets.images import IMAGENET_DEVIATION, IMAGENET_MEAN, Channels

Family = Literal["siglip", "clip", "dinov2"]
Activation = Literal["gelu", "gelu_pytorch_tanh", "quick_gelu"]

_SCALING: dict[str, tuple[Channels, Channels]] = {
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "dinov2": (IMAGENET_MEAN, IMAGENET_DEVIATION),
}
"""Mean and deviation by which each family scales pixels / 255."""


@dataclass(frozen=True, kw_only=True)
class Tower:
    """An image transformer: images of `size` (Hi, Wi) px become patches of `patch` x `patch` px, each `width` wide.

    `layers` counts those that are run: published systems that read the features of the layer before the last have one
    fewer here, and no last norm (`norm`). With `native` the positions were learnt for images of native x native px and
    are interpolated to `size`; else they are as many as `size` has patches. A rest of less than a patch is not seen.
    """

    family: Family
    size: tuple[int, int]
    patch: int
    width: int
    layers: int
    heads: int
    hidden: int
    activation: Activation = "gelu"
    registers: int = 0
    norm: bool = True
    native: int | None = None

    def __post_init__(self) -> None:
        for kind, said, known in (("family", self.family, Family), ("activation", self.activation, Activation)):
            if said not in get_args(known):
                raise unknown(f"{kind} of a tower", said, get_args(known))
        if min(self.patches) < 1 or self.layers < 1 or self.width % self.heads:
            raise KinemaError(
                f"tower: {self.size[0]}x{self.size[1]} px in patches of {self.patch}, {self.layers} layers, width "
                f"{self.width} for {self.heads} heads; expected at least a patch and a layer, and a width heads divide"
            )
        if self.registers and self.family != "dinov2":
            raise KinemaError(f"tower: {self.family} has no registers, got {self.registers}; only dinov2 has")
        if self.family == "clip" and self.norm:
            raise KinemaError("tower: clip's last norm is of its class token alone; expected norm=False")
        if self.family == "dinov2" and self.hidden % self.width:
            raise KinemaError(f"tower: dinov2's hidden {self.hidden} must be a multiple of its width {self.width}")
        if self.native is None and self.size[0] != self.size[1]:
            raise KinemaError(
                f"tower: positions are learnt for square images, size is {self.size[0]}x{self.size[1]}\n"
                "fix: native=PX, the side of the images that they were learnt for, to interpolate them"
            )

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def scaling(self) -> tuple[Channels, Channels]:
        """Mean and deviation by which pixels / 255 are scaled."""
        return _SCALING[self.family]


SIGLIP_SO400M_224 = Tower(
    family="siglip", size=(224, 224), patch=14, width=1152, layers=27, heads=16, hidden=4304,
    activation="gelu_pytorch_tanh",
)  # fmt: skip
"""PaliGemma's and pi0's."""

SMOLVLM2_500M = Tower(
    family="siglip", size=(512, 512), patch=16, width=768, layers=12, heads=12, hidden=3072,
    activation="gelu_pytorch_tanh",
)  # fmt: skip
"""SmolVLM2-500M's and SmolVLA's: SigLIP at its native size; 64 tokens after a pixel shuffle by 4."""

CLIP_LARGE_336 = Tower(
    family="clip", size=(336, 336), patch=14, width=1024, layers=23, heads=16, hidden=4096,
    activation="quick_gelu", norm=False,
)  # fmt: skip
"""The layer before the last, as LLaVA reads it."""

DINOV2_LARGE_224 = Tower(
    family="dinov2", size=(224, 224), patch=14, width=1024, layers=24, heads=16, hidden=4096, native=518
)
"""Published for 518 px."""

# Prismatic (Karamcheti et al. 2024), OpenVLA: the layer before the last of both, DINOv2's patches first. Their
# positions are stored for 224 px. timm's SigLIP has the exact GELU.
PRISMATIC_DINOV2 = replace(DINOV2_LARGE_224, layers=23, norm=False, registers=4, native=None)
PRISMATIC_SIGLIP = replace(SIGLIP_SO400M_224, layers=26, norm=False, activation="gelu")
PRISMATIC = (PRISMATIC_DINOV2, PRISMATIC_SIGLIP)

TINY_SIGLIP = Tower(
    family="siglip", size=(32, 32), patch=8, width=32, layers=2, heads=2, hidden=64, activation="gelu_pytorch_tanh"
)
TINY_DINOV2 = Tower(family="dinov2", size=(32, 32), patch=8, width=32, layers=2, heads=2, hidden=64, registers=2)
