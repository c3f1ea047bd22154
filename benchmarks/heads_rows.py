"""The action heads that the benchmarks compare: on the Fork with the ablation of each one's own part, and on MW-3.

A head of the repository that no row holds is measured with its defaults, or named as not measured where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal

from kinema.core.names import find, members
from kinema.heads.autoregressive import Autoregressive
from kinema.heads.base import HeadConfig
from kinema.heads.categorical import Categorical
from kinema.heads.consistency import Consistency
from kinema.heads.cvae import Cvae
from kinema.heads.diffusion import Diffusion
from kinema.heads.energy import Energy
from kinema.heads.flow import Flow
from kinema.heads.gmm import Gmm
from kinema.heads.per_embodiment import Part, PerEmbodiment
from kinema.heads.rectified import Rectified
from kinema.heads.regression import Regression
from kinema.heads.vq_bet import VqBet
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.denoisers.transformer import Transformer
from kinema.nets.denoisers.unet1d import Unet1d
from kinema.sim.fork import Fork

FORKS: Mapping[str, Fork] = {
    "50:50": Fork(),
    "60:40": Fork(majority=0.6),
    "correlated": Fork(correlated=True, horizon=4),
    "one pair": Fork(correlated=True, horizon=1),
}
Bounds = tuple[float, float]


GOES_ON = "it goes on with a language model, so there is nothing of it to measure alone; see benchmarks/policies.py"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One head on one Fork; `gates` maps left, right, cover or invalid to the ends between which every seed must lie.

    An ablation lacks what makes the system that it is named for: its gates say how it must fail. `near` and `fewer`
    hold another row's name and a number: how far apart their invalid shares may be, and how many times fewer calls of
    its denoiser this row must need for a chunk. `count` chunks are drawn after `steps` training steps of `batch`
    chunks, or with the weights of the row that `weights` names, which differs in how it acts alone.
    """

    config: HeadConfig
    fork: str = "50:50"
    kind: Literal["system", "ablation"] = "system"
    gates: Mapping[str, Bounds] = field(default_factory=dict)
    near: tuple[str, float] | None = None
    fewer: tuple[str, float] | None = None
    weights: str | None = None
    steps: int = 1000
    batch: int = 64
    count: int = 1000


def both(cover: float, invalid: float) -> dict[str, Bounds]:
    """Return the gates of what keeps both modes."""
    return {"cover": (cover, 0.5), "invalid": (0.0, invalid)}


def ablation(config: HeadConfig, *, fork: str = "50:50", weights: str | None = None, **gates: Bounds) -> Row:
    """Return the row of an ablation, which must fail: by default as the mean of both ways does."""
    return Row(config=config, fork=fork, kind="ablation", weights=weights, gates=gates or AVERAGES)


AVERAGES: Mapping[str, Bounds] = {"invalid": (0.9, 1.0)}
SMALL = Mlp(hidden=128, blocks=2)
"""The denoiser on the Fork, whose chunks have 32 numbers."""
FLOW = Flow(denoiser=SMALL, draws=1)
DDPM = Diffusion(denoiser=SMALL, prediction="epsilon", clip=1.0, sampler="ddpm", steps=100, draws=1)
DDIM = replace(DDPM, sampler="ddim", steps=10, spacing="leading")
UNET, TRANSFORMER = Unet1d(channels=(16, 32), time_width=32), Transformer(layers=1, hidden=64)
AUTOREGRESSIVE = Autoregressive(blocks=1)
ENERGY = Energy(hidden=64, blocks=1, negatives=32, candidates=64, steps=25)
CVAE = Cvae(beta=0.01, prior="normal", posterior_layers=1, heads=4, hidden=128, dropout=0.0)

FORK: Mapping[str, Row] = {
    "regression, MSE": Row(config=Regression(loss="mse"), gates=AVERAGES),
    "regression, MSE, 60:40": Row(config=Regression(loss="mse"), fork="60:40", gates=AVERAGES),
    "regression, L1, 60:40": Row(
        config=Regression(loss="l1"), fork="60:40", gates={"left": (0.99, 1.0), "invalid": (0.0, 0.01)}
    ),
    "GMM, 5 modes": Row(config=Gmm(), gates=both(0.35, 0.05)),
    "GMM, 1 mode": ablation(Gmm(modes=1)),
    "autoregressive": Row(config=AUTOREGRESSIVE, gates=both(0.35, 0.15)),
    "parallel bins": ablation(Categorical()),
    "autoregressive, correlated": Row(config=AUTOREGRESSIVE, fork="correlated", gates=both(0.35, 0.02)),
    "parallel bins, correlated": ablation(Categorical(), fork="correlated", invalid=(0.4, 0.6)),
    "flow, 10 steps": Row(config=FLOW, gates=both(0.4, 0.05), steps=2500, batch=128),
    "flow, 1 step": ablation(replace(FLOW, steps=1), weights="flow, 10 steps"),
    "diffusion, DDPM 100 steps": Row(config=DDPM, gates=both(0.4, 0.05), steps=8000, batch=128),
    "diffusion, DDIM 10 steps": Row(
        config=DDIM,
        weights="diffusion, DDPM 100 steps",
        gates=both(0.4, 0.05),
        near=("diffusion, DDPM 100 steps", 0.03),
        fewer=("diffusion, DDPM 100 steps", 5.0),
    ),
    "diffusion, DDIM 1 step": ablation(replace(DDIM, steps=1, spacing="trailing"), weights="diffusion, DDPM 100 steps"),
    "diffusion, U-Net": Row(config=replace(DDIM, denoiser=UNET), gates=both(0.4, 0.05), steps=4000),
    "diffusion, transformer": Row(
        config=replace(DDIM, denoiser=replace(TRANSFORMER, causal=False)), gates=both(0.4, 0.05), steps=4000
    ),
    # Published, and found to be what breaks chunks here: three seeds, once with four times the parameters.
    "diffusion, causal transformer": Row(
        config=replace(DDIM, denoiser=TRANSFORMER), gates={"cover": (0.25, 0.5), "invalid": (0.15, 0.4)}, steps=4000
    ),
    "consistency, 1 step": Row(
        config=Consistency(teacher=FLOW, denoiser=SMALL, draws=1),
        gates=both(0.35, 0.1),
        fewer=("flow, 10 steps", 8.0),
        steps=6000,
        batch=128,
    ),
    "rectified, 1 step": Row(
        config=Rectified(teacher=FLOW, denoiser=SMALL, draws=2),
        gates=both(0.35, 0.1),
        fewer=("flow, 10 steps", 8.0),
        steps=6000,
        batch=128,
    ),
    "VQ-BeT": Row(config=VqBet(quantiser_steps=400, temperature=1.0), gates=both(0.35, 0.05)),
    "VQ-BeT, temperature 0.1": Row(config=VqBet(quantiser_steps=400, temperature=0.1), weights="VQ-BeT"),
    "VQ-BeT, offset for sampled codes": ablation(VqBet(quantiser_steps=400, offset_for="sampled"), cover=(0.0, 0.1)),
    "CVAE, z ~ N(0, 1)": Row(config=CVAE, gates={"cover": (0.3, 0.5)}),
    "CVAE, z = 0": Row(config=replace(CVAE, prior="zero"), weights="CVAE, z ~ N(0, 1)"),
    "CVAE, z ~ N(0, 1), beta 10": ablation(replace(CVAE, beta=10.0), cover=(0.0, 0.05)),
    "energy, Langevin, one pair": Row(config=ENERGY, fork="one pair", gates=both(0.3, 0.1), steps=500),
    "energy, derivative-free, one pair": Row(
        config=replace(ENERGY, search="derivative_free"), fork="one pair", weights="energy, Langevin, one pair"
    ),
    "energy, margin 1, one pair": replace(
        ablation(replace(ENERGY, margin=1.0), fork="one pair", invalid=(0.12, 1.0)), steps=500
    ),
    "per embodiment, flow": Row(
        config=PerEmbodiment(parts={"fork": Part(head=FLOW, action_width=2, pred_horizon=16)}),
        gates=both(0.4, 0.05),
        steps=2500,
        batch=128,
    ),
}

METAWORLD: Mapping[str, HeadConfig] = {
    "regression, MSE": Regression(loss="mse"),
    "regression, L1": Regression(loss="l1"),
    "GMM, 5 modes": Gmm(),
    "parallel bins": Categorical(),
    "autoregressive": AUTOREGRESSIVE,
    "flow, 10 steps": Flow(),
    "flow, 1 step": Flow(steps=1),
    "diffusion, DDIM 10 steps": replace(DDIM, denoiser=Mlp(), draws=4),
    "consistency, 1 step": Consistency(),
    "rectified, 1 step": Rectified(),
    "VQ-BeT": VqBet(quantiser_steps=400),
    "CVAE, z = 0": replace(CVAE, prior="zero"),
    "energy, derivative-free": Energy(hidden=128, blocks=2, negatives=16, search="derivative_free"),
}
"""The head of each row of MW-3."""


def given(run: Any, *names: str) -> str:
    """Return the options `names` of the benchmark `run` that are not its defaults, as a command line has them."""
    values = {name: getattr(run, name) for name in names}
    return "".join(f" --{name} {value}" for name, value in values.items() if value != getattr(type(run)(), name))


def heads() -> dict[str, type[HeadConfig]]:
    """Return all heads of the repository by name."""
    return {name: find("head", name) for name in members("head")}


def fork_rows() -> dict[str, Row]:
    """Return the rows, and one with the defaults of every head that none of them holds."""
    held = {type(row.config) for row in FORK.values()}
    others = {
        name: head for name, head in heads().items() if head not in held and not needs(head) and not goes_on(head)
    }
    return {**FORK, **{f"{name}, defaults": Row(config=head()) for name, head in others.items()}}


def left_out() -> dict[str, str]:
    """Return the heads that no row holds and that cannot be measured here by their defaults, with the reason."""
    held = {type(row.config) for row in FORK.values()}
    found = {name: head for name, head in heads().items() if head not in held}
    bound = {name: GOES_ON for name, head in found.items() if not needs(head) and goes_on(head)}
    return bound | {name: f"no row gives it {', '.join(needs(head))}" for name, head in found.items() if needs(head)}


def goes_on(head: type[HeadConfig]) -> bool:
    """Return whether `head`, which has defaults, goes on with a language model and so cannot be built by itself."""
    return head().goes_on


def needs(head: type[HeadConfig]) -> list[str]:
    """Return the fields of `head` that have no default."""
    return [f.name for f in fields(head) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
