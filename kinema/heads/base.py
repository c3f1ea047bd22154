"""The contract of action heads: a loss for training and samples for acting, both in normalised action space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.core.policy import Guide
from kinema.core.spec import ACTION
from kinema.core.transform import Transform
from kinema.nets.base import KV, Context, Extend
from kinema.nets.noise import Rng
from kinema.transforms.normalise import Normalise


class Head(nn.Module, ABC):
    """Turns a context into chunks of `pred_horizon` actions."""

    @abstractmethod
    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the loss of each step (B, H) for `action` (B, H, A).

        Steps where `mask` (B, H) is False are padding: they carry 0, and what they hold changes nothing. Where robots
        of different widths are mixed it is (B, H, A), and padded components change nothing either: see `step_mean`.
        """

    @abstractmethod
    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return one chunk of actions (B, H, A) for each batch entry.

        Nothing says here which components a robot lacks: heads that draw a chunk as a whole (flow, diffusion,
        consistency, rectified, autoregressive) were trained with noise, or 0, in their place, and when acting put what
        they draw there. Where robots of different widths are mixed, `PerEmbodiment` gives each a head of its own width.
        """


class AcceptsGuide(ABC):
    """A head whose chunks can be pulled towards a given one while they are drawn."""

    @abstractmethod
    def check_guide(self, method: str, held: int) -> None:
        """Raise KinemaError unless the head follows guides of `method` whose first `held` steps weigh 1."""

    @abstractmethod
    def sample_guided(self, context: Context, guide: Guide, *, rng: Rng) -> Tensor:
        """Return chunks (B, H, A) that agree with `guide`, of tensors in normalised space, where its weight is high."""


class DenoisingPath(ABC):
    """A head that carries noise to actions in `levels` steps of a differential equation, which a student can learn.

    `level` (B,) int64 counts from 0, noise, to `levels`, an action; each entry has its own.
    """

    levels: int

    @abstractmethod
    def corrupted(self, action: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Return the mixture (B, H, A) of `action` and `noise` that stands at `level`."""

    @abstractmethod
    def advanced(self, x: Tensor, level: Tensor, context: Context) -> Tensor:
        """Return `x` (B, H, A) one level on, without drawing anything."""

    @abstractmethod
    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return s and c (B,) such that s x + c F(x) is x itself at the last level, whatever F; c is 0 there alone."""

    @abstractmethod
    def time(self, level: Tensor) -> Tensor:
        """Return the time (B,) in [0, 1] that a denoiser is told at `level`."""


def guidable(head: Head) -> AcceptsGuide:
    """Return `head` as one that accepts guides; raises KinemaError when it does not."""
    if not isinstance(head, AcceptsGuide):
        raise KinemaError(
            f"{type(head).__name__} cannot follow a guide, which real-time chunking needs; a flow head can"
        )
    return head


class HasLogProb(ABC):
    """Heads that know the density of a chunk; ask with `isinstance(head, HasLogProb)`."""

    @abstractmethod
    def log_prob(self, context: Context, action: Tensor, mask: Tensor) -> Tensor:
        """Return log p(step | steps before it, context) of each step (B, H) of `action` (B, H, A), 0 where padded.

        By the chain rule their sum over H is the log-density of the chunk, of the part that `mask` keeps.
        """


class ConditionsTrunk(ABC):
    """A head that gives the trunk a token of its own, made of the demonstrated action or, when acting, of its prior.

    The token comes before those of the encoders.
    """

    @abstractmethod
    def condition(self, seen: Tensor | None, action: Tensor, mask: Tensor, *, rng: Rng) -> tuple[Tensor, Tensor]:
        """Return the token (B, 1, D) for training, and what `loss` finds as `context.posterior`.

        `seen` (B, N, D) are the tokens of the private encoder; `action` and `mask` are those that `loss` gets.
        """

    @abstractmethod
    def prior(self, batch: int, *, rng: Rng) -> Tensor:
        """Return the token (B, 1, D) for acting."""


class LearnsInStages(ABC):
    """A head that does not train all parameters of the policy at all times."""

    @abstractmethod
    def end_stage(self) -> None:
        """Go on to the next stage, if there is one, as if the present one had had all its steps."""


class PicksByEmbodiment(ABC):
    """A head with parts for several embodiments: `context.embodiment` says which is each entry's."""

    @abstractmethod
    def pick(self, embodiments: Sequence[str]) -> Tensor:
        """Return the numbers (B,) of the parts for `embodiments`; an unknown one is a SpecMismatch that names it."""


def going_on(context: Context, head: Head) -> tuple[Extend, KV]:
    """Return the trunk that goes on after `context`, and what its attention keeps; raises KinemaError for others."""
    if context.extend is None or context.kv is None:
        raise no_words(type(head).__name__)
    return context.extend, context.kv


def no_words(head: str) -> KinemaError:
    """Return the error for a trunk that `head` cannot go on with."""
    return KinemaError(
        f"{head} goes on with the trunk where the prompt ends, which this trunk cannot do\n"
        "fix: a trunk that is a language model: kinema.nets.trunks.language_model"
    )


def check_scale(head: HeadConfig, transforms: Sequence[Transform]) -> None:
    """Raise KinemaError when `head` needs actions in [-1, 1] and a transform scales them otherwise."""
    for transform in transforms:
        mode = transform.modes.get(ACTION) if isinstance(transform, Normalise) else None
        if head.bounded and mode not in (None, "min_max", "quantile_clipped"):
            raise KinemaError(
                f"{type(head).__name__} needs actions in [-1, 1]; normalising them by {mode!r} leaves some outside\n"
                "fix: scale 'action' by 'min_max' or 'quantile_clipped'"
            )


class HeadConfig(ABC):
    """Frozen description of a head."""

    @property
    def private(self) -> str | None:
        """The encoder whose tokens go to the head alone, as `context.private`; most heads have none."""
        return None

    @property
    def private_width(self) -> int | None:
        """How wide the head wants those tokens; None: as the policy's others."""
        return None

    @property
    def bounded(self) -> bool:
        """Whether the head can neither learn nor make actions outside [-1, 1]."""
        return False

    @property
    def goes_on(self) -> bool:
        """Whether the head goes on with the trunk where the prompt ends: then the trunk must be an `Extend`."""
        return False

    def check_words(self, known: int, text: int) -> None:
        """Raise KinemaError unless a trunk of `known` words can say what the head does; prompts use `text` of them."""

    def check_steps(self, steps: int) -> None:
        """Raise KinemaError when a run of `steps` training steps is too short for the head to act after it."""

    def fit(self, chunks: Callable[[], tuple[np.ndarray, np.ndarray]]) -> HeadConfig:
        """Return this configuration with what it takes from training data; most take nothing.

        `chunks()` are normalised actions (B, H, A) of the training episodes and their mask, as `Head.loss` gets them.
        """
        return self

    @abstractmethod
    def build(self, *, action_width: int, pred_horizon: int, width: int) -> Head:
        """Return the module that reads a context of `width` and predicts `pred_horizon` actions of `action_width`."""


class ConditioningConfig(HeadConfig):
    """Frozen description of a head that is `ConditionsTrunk`."""
