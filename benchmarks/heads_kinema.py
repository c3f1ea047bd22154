"""kinema's side of the heads' speed benchmark; a process of its own, started by heads.py with options in JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from heads_timing import BATCH, Subject, measured
from torch import Tensor, nn

from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.heads.autoregressive import Autoregressive, AutoregressiveHead
from kinema.heads.base import Head, HeadConfig
from kinema.heads.categorical import Categorical
from kinema.heads.consistency import Consistency
from kinema.heads.cvae import Cvae
from kinema.heads.diffusion import Diffusion
from kinema.heads.energy import Energy, EnergyHead
from kinema.heads.flow import Flow
from kinema.heads.gmm import Gmm
from kinema.heads.per_embodiment import Part, PerEmbodiment
from kinema.heads.rectified import Rectified
from kinema.heads.regression import Regression
from kinema.heads.vq_bet import VqBet, VqBetHead
from kinema.nets.base import Context
from kinema.nets.denoisers.base import Denoiser
from kinema.nets.denoisers.transformer import Transformer
from kinema.nets.denoisers.unet1d import Unet1d
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.transformer import Transformer as TransformerTrunk
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network
from kinema.train.memory import keep_freed_memory
from kinema.train.optim import OptimConfig, build_optimizer

Sizes = Mapping[str, Any]
TOKENS = 4


def head_of(kind: str, sizes: Sizes) -> HeadConfig:
    """Return the head `kind`; those that have a counterpart in LeRobot have its sizes and one draw, others defaults."""
    flow = Flow()
    unet = Unet1d(channels=tuple(sizes["channels"]), time_width=sizes["time_width"])
    ddim = {"prediction": "epsilon", "clip": 1.0, "draws": 1, "steps": sizes["steps"]}
    part = Part(head=flow, action_width=sizes["action_width"], pred_horizon=sizes["pred_horizon"])
    heads: dict[str, HeadConfig] = {
        "regression": Regression(),
        "gmm": Gmm(),
        "categorical": Categorical(),
        "autoregressive": Autoregressive(),
        "energy": Energy(),
        "flow": flow,
        "diffusion": Diffusion(denoiser=unet, **ddim),  # type: ignore[arg-type]
        "diffusion_transformer": Diffusion(denoiser=Transformer(), draws=1),
        "diffusion_mlp": Diffusion(),
        "consistency": Consistency(),
        "rectified": Rectified(),
        "vq_bet": VqBet(quantiser_steps=1, offset_for="sampled", revive=0.0),
        "per_embodiment": PerEmbodiment(parts={"one": part, "other": part}),
    }
    return heads[kind]


def alone(kind: str, sizes: Sizes, compiled: bool) -> Subject:
    """Return a head that reads a context of random numbers."""
    width = sizes["width"]
    head = head_of(kind, sizes).build(
        action_width=sizes["action_width"], pred_horizon=sizes["pred_horizon"], width=width
    )
    if isinstance(head, VqBetHead):
        head.steps.fill_(2 if sizes["stage"] == 2 else -(2**40))
    context, action, mask = seen(sizes, BATCH), *demonstrated(sizes, BATCH)
    rng = torch.Generator().manual_seed(0)
    loss, draw = head.loss, head.sample
    if compiled:
        loss, draw = compiled_parts(head)

    def sample(count: int) -> Callable[[], Tensor]:
        given = seen(sizes, count)
        if sizes["stage"] == 1:  # a head that cannot act yet still runs on entries that are not asked of it
            given = replace(given, own=torch.zeros(count, dtype=torch.bool))
        return lambda: _inferred(lambda: draw(given, rng=rng))

    return Subject(head, _step(head, mask, lambda: loss(context, action, mask, rng=rng)), sample)


def compiled_parts(head: Head) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Return loss and sample, compiled: of what acts in a loop the network alone, as LeRobot does it."""
    denoisers = [part for part in head.modules() if isinstance(part, Denoiser)]
    for denoiser in denoisers:
        denoiser.compile()
    if denoisers:
        return head.loss, head.sample
    if isinstance(head, (AutoregressiveHead, EnergyHead)):  # one graph of a step for each token or Langevin step
        return torch.compile(head.loss), head.sample
    return torch.compile(head.loss), torch.compile(head.sample)


def act(kind: str, sizes: Sizes, compiled: bool) -> Subject:
    """Return the whole policy ACT, which sees two vectors."""
    shape = {"heads": sizes["heads"], "hidden": sizes["hidden"]}
    linear = {"style": "state", "state": "state", "environment": "environment"}
    config = PolicyConfig(
        encoders={name: Proprioception(vector=vector, hidden=None) for name, vector in linear.items()},
        trunk=TransformerTrunk(**shape),
        head=Cvae(state="style", **shape),
        width=sizes["width"],
        pred_horizon=sizes["pred_horizon"],
        exec_horizon=1,
    )
    network = Network(config, robot(sizes))
    rng = torch.Generator().manual_seed(0)

    def drawn(sample: Mapping[str, Tensor]) -> Tensor:
        return network.head.sample(network.context(sample, rng), rng=rng)

    loss, draw = (torch.compile(network.loss), torch.compile(drawn)) if compiled else (network.loss, drawn)
    action, mask = demonstrated(sizes, BATCH)
    batch = {**observed(sizes, BATCH), "action": action, "mask": mask}

    def sample(count: int) -> Callable[[], Tensor]:
        given = observed(sizes, count)
        return lambda: _inferred(lambda: draw(given))

    return Subject(network, _step(network, mask, lambda: loss(batch, rng)), sample)


def robot(sizes: Sizes) -> RobotSpec:
    """Return a robot with two vectors of observation."""
    vectors = tuple(
        Vector(name=name, components=names, units=("rad",) * len(names), frame="base")
        for name, names in ((name, _names(sizes[name])) for name in ("state", "environment"))
    )
    width = sizes["action_width"]
    action = ActionSpec(
        components=_names(width),
        units=("rad",) * width,
        frame="base",
        kind="joint position",
        integrator="none",
        low=(-9.0,) * width,
        high=(9.0,) * width,
    )
    return RobotSpec(embodiment="arm", rate_hz=50.0, observation=ObservationSpec(vectors=vectors), action=action)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"x{index}" for index in range(count))


def observed(sizes: Sizes, count: int) -> dict[str, Tensor]:
    """Return observations of the robot."""
    return {f"vector.{name}": torch.randn(count, 1, sizes[name]) for name in ("state", "environment")}


def demonstrated(sizes: Sizes, count: int) -> tuple[Tensor, Tensor]:
    """Return chunks and a mask without padding."""
    shape = (count, sizes["pred_horizon"], sizes["action_width"])
    return torch.randn(shape).clamp(-1, 1), torch.ones(shape[:2], dtype=torch.bool)


def seen(sizes: Sizes, count: int) -> Context:
    """Return a context of random numbers."""
    tokens = torch.randn(count, TOKENS, sizes["width"])
    mask = torch.ones(count, TOKENS, dtype=torch.bool)
    embodiment = torch.arange(count) % 2
    return Context(tokens=tokens, mask=mask, readout={"action": torch.randn_like(tokens[:, :1])}, embodiment=embodiment)


def _inferred(call: Callable[[], Tensor]) -> Tensor:
    with torch.inference_mode():
        return call()


def _step(module: nn.Module, mask: Tensor, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step with kinema's optimiser."""
    config = OptimConfig()
    optimizer = build_optimizer(module, config)

    def step() -> None:
        (loss().sum() / mask.sum()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm or 0.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main(options: str) -> None:
    """Measure what the options ask for and write it to stdout."""
    keep_freed_memory()  # as training does; acting has it too, see NOTES of heads.py
    asked = json.loads(options)
    make = act if asked["kind"] == "act" else alone
    found = measured(lambda compiled: make(asked["kind"], asked["sizes"], compiled), asked)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
