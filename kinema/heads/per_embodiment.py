"""One head per embodiment on a shared trunk, each with its own action width and horizon.

As in HPT (Wang et al. 2024) and CrossFormer (Doshi et al. 2024). Every part runs on the whole batch, entries of other
robots being padding to it: shapes are static, and training one robot leaves the gradients of the other parts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import KinemaError, SpecMismatch, nearest
from kinema.heads.base import ConditioningConfig, Head, HeadConfig, PicksByEmbodiment
from kinema.nets.base import Context
from kinema.nets.noise import Rng


@dataclass(frozen=True, kw_only=True)
class Part:
    """The head of one embodiment: it predicts the first `pred_horizon` steps of `action_width` components."""

    head: HeadConfig
    action_width: int
    pred_horizon: int


@dataclass(frozen=True, kw_only=True)
class PerEmbodiment(HeadConfig):
    """`parts` by embodiment, named as in the robots' specs."""

    parts: Mapping[str, Part]

    @property
    def bounded(self) -> bool:
        """Where any part is."""
        return any(part.head.bounded for part in self.parts.values())

    @property
    def goes_on(self) -> bool:
        """Where any part does."""
        return any(part.head.goes_on for part in self.parts.values())

    def check_steps(self, steps: int) -> None:
        """Raise KinemaError when `steps` are too few for a part, however many of them have entries of its robot."""
        for part in self.parts.values():
            part.head.check_steps(steps)

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> PerEmbodimentHead:
        """Return the head; no part may be wider or longer than `action_width` and `pred_horizon`."""
        if not self.parts:
            raise KinemaError("per_embodiment: no part is named")
        for name, part in self.parts.items():
            if not 1 <= part.action_width <= action_width or not 1 <= part.pred_horizon <= pred_horizon:
                raise KinemaError(
                    f"per_embodiment: {name!r} predicts {part.pred_horizon} steps of {part.action_width} components; "
                    f"the policy has {pred_horizon} steps of {action_width}"
                )
            if isinstance(part.head, ConditioningConfig) or part.head.private is not None:
                raise KinemaError(
                    f"per_embodiment: {name!r} has a {type(part.head).__name__} head, which conditions the trunk or "
                    "keeps an encoder for itself; robots that share the trunk cannot each do so"
                )
        return PerEmbodimentHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class PerEmbodimentHead(Head, PicksByEmbodiment):
    """`context.embodiment` (B,) numbers the parts in the order of the configuration."""

    def __init__(self, config: PerEmbodiment, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (pred_horizon, action_width)
        self.parts = nn.ModuleList(
            [
                part.head.build(action_width=part.action_width, pred_horizon=part.pred_horizon, width=width)
                for part in config.parts.values()
            ]
        )

    def pick(self, embodiments: Sequence[str]) -> Tensor:
        """Return the numbers (B,) of the parts for `embodiments`."""
        names = list(self.config.parts)
        for name in embodiments:
            if name not in names:
                raise SpecMismatch(f"no head for embodiment {name!r}{nearest(name, names)}\nknown: {', '.join(names)}")
        return torch.tensor([names.index(name) for name in embodiments])

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return each entry's loss by its own part, per step.

        Steps beyond a part's horizon carry 0, and those before it count more, so that an entry counts as a whole.
        """
        whole = action.new_zeros(action.shape[:2])
        real = (mask if mask.ndim == 2 else mask.any(-1)).sum(1)
        for number, (part, head) in enumerate(self._heads()):
            steps, width = part.pred_horizon, part.action_width
            own = mask[:, :steps] if mask.ndim == 2 else mask[:, :steps, :width]
            own = own & (_of(context) == number).view(-1, *[1] * (mask.ndim - 1))
            loss = head.loss(context, action[:, :steps, :width], own, rng=rng)
            seen = (own if own.ndim == 2 else own.any(-1)).sum(1).clamp(min=1)
            whole = whole + F.pad(loss * (real / seen)[:, None], (0, whole.shape[1] - steps))
        return whole

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks (B, H, A): components that a robot lacks are 0, its last step is held to the end."""
        whole = context.tokens.new_zeros((len(context.tokens), *self.shape), dtype=torch.float32)
        for number, (part, head) in enumerate(self._heads()):
            own = _of(context) == number
            chunk = F.pad(head.sample(replace(context, own=own), rng=rng), (0, self.shape[1] - part.action_width))
            rest = chunk[:, -1:].expand(-1, self.shape[0] - part.pred_horizon, -1)
            whole = torch.where(own[:, None, None], torch.cat([chunk, rest], dim=1), whole)
        return whole

    def _heads(self) -> list[tuple[Part, Head]]:
        return [(part, cast(Head, head)) for part, head in zip(self.config.parts.values(), self.parts, strict=True)]


def _of(context: Context) -> Tensor:
    if context.embodiment is None:
        raise KinemaError("a per_embodiment head needs a context that says which embodiment each entry is of")
    return context.embodiment
