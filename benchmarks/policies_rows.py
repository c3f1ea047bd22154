"""The presets that `benchmarks/policies.py` compares, at sizes that learn on two CPU cores, and how each is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kinema.heads.energy import Energy
from kinema.nets.encoders.words import Words
from kinema.policies.act import act
from kinema.policies.base import PolicyConfig
from kinema.policies.bc_rnn import bc_rnn
from kinema.policies.diffusion_policy import diffusion_policy
from kinema.policies.film_flow import film_flow
from kinema.policies.implicit_bc import implicit_bc
from kinema.policies.octo import octo
from kinema.policies.openvla import openvla
from kinema.policies.openvla_oft import openvla_oft
from kinema.policies.pi0 import pi0
from kinema.policies.pi0_fast import pi0_fast
from kinema.policies.rt1 import rt1
from kinema.policies.smolvla import smolvla
from kinema.policies.vq_bet import vq_bet
from kinema.recipes.base import DataConfig, Recipe
from kinema.train.config import TrainConfig
from kinema.train.optim import OptimConfig

LANGUAGE: Mapping[str, Any] = {"language": Words()}
"""For systems that were published without language: one token of the instruction."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One preset, what it is told beside cameras and state, and its training; `stateless` ones read no vector.

    `published` is what the preset is told for the size that its authors published, None where it has no such size.
    """

    preset: Callable[..., PolicyConfig]
    given: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] | None = field(default_factory=lambda: {"size": "published"})
    stateless: bool = False
    steps: int = 1500
    batch: int = 64
    rate: float = 5e-4

    def policy(self, *, cameras: tuple[str, ...], state: str) -> PolicyConfig:
        """Return the composition over these cameras and this state."""
        seen = {} if self.stateless else {"state": state}
        return self.preset(cameras=cameras, **seen, **self.given)

    def recipe(self, *, cameras: tuple[str, ...], state: str, seed: int, scale: float = 1.0) -> Recipe:
        """Return the run of one training seed with `scale` times the row's steps."""
        steps = max(1, round(scale * self.steps))
        warmup = min(100, steps // 10)
        optim = OptimConfig(learning_rate=self.rate, weight_decay=1e-4, betas=(0.9, 0.99), warmup_steps=warmup)
        return Recipe(
            policy=self.policy(cameras=cameras, state=state),
            data=DataConfig(),
            train=TrainConfig(
                steps=steps, batch_size=self.batch, seed=seed, optim=optim, ema_decay=0.995, evaluate_every=0
            ),
        )


def spoken(tokenizer: str) -> dict[str, str]:
    """Return what a preset whose trunk is a language model is told for its published size."""
    return {"size": "published", "tokenizer": tokenizer}


ROWS: Mapping[str, Row] = {
    "film-flow": Row(preset=film_flow, given={**LANGUAGE, "width": 128}, published=None),
    "BC-RNN-GMM": Row(preset=bc_rnn, given=LANGUAGE),
    "implicit BC": Row(
        preset=implicit_bc, given={**LANGUAGE, "head": Energy(temperature=0.0, negatives=64)}, published=None
    ),
    "ACT": Row(preset=act, given=LANGUAGE),
    "Diffusion Policy, CNN": Row(preset=diffusion_policy, given=LANGUAGE),
    "Diffusion Policy, transformer": Row(
        preset=diffusion_policy,
        given={**LANGUAGE, "denoiser": "transformer"},
        published={"size": "published", "denoiser": "transformer"},
    ),
    "VQ-BeT": Row(preset=vq_bet, given=LANGUAGE, steps=2000),
    "RT-1": Row(preset=rt1, given=LANGUAGE, stateless=True),
    "Octo": Row(
        preset=octo,
        given=LANGUAGE,
        published={"size": "published_base", "cameras": ("front", "wrist")},
        stateless=True,
    ),
    # Meta-World's longest instruction makes a prompt of 109 bytes.
    "OpenVLA": Row(preset=openvla, given={"words": 128}, published=spoken("Llama-2's"), stateless=True),
    "OpenVLA-OFT": Row(preset=openvla_oft, given={"words": 128}, published=spoken("Llama-2's")),
    "pi0": Row(preset=pi0, published=spoken("PaliGemma's")),
    "pi0-FAST": Row(preset=pi0_fast, published=spoken("PaliGemma's")),
    "SmolVLA": Row(preset=smolvla, published=spoken("SmolVLM2's")),
}
