"""Let `lerobot` import where torchvision's compiled operators are missing: declare those that it names."""

from __future__ import annotations

import torch

try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    OPERATORS = torch.library.Library("torchvision", "DEF")
    OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
