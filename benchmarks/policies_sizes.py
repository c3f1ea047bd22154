"""How many parameters the presets of `benchmarks/policies_rows.py` have at their published size, without the memory."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from policies_rows import ROWS

from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.language.tokenizers import BYTES
from kinema.policies.network import Network

_JOINTS = tuple(f"joint{number}" for number in range(7))
ROBOT = RobotSpec(
    embodiment="arm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=256, width=256), Camera(name="wrist", height=128, width=128)),
        vectors=(Vector(name="proprioception", components=_JOINTS, units=("rad",) * 7, frame="base"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=_JOINTS,
        units=("rad",) * 7,
        frame="base",
        kind="joint position",
        integrator="none",
        low=(-1.0,) * 7,
        high=(1.0,) * 7,
    ),
)
"""Seven joints, and the cameras that Octo was published with; most rows read the first alone."""


@cache
def published(name: str) -> int | None:
    """Return the number of parameters of row `name` as published, None where its system has no such size."""
    row = ROWS[name]
    if row.published is None:
        return None
    config = row.preset(**{"cameras": ("front",), **row.published})
    chunks = np.random.default_rng(0).uniform(-1, 1, (256, config.pred_horizon, ROBOT.action.width))
    for encoder in config.encoders.values():
        if not isinstance(encoder, Prompt):
            encoder.pinned()  # reads frozen models, which are no part of the network and have no place on "meta"
    # A tokenizer has no parameters, so that of another language counts the same.
    encoders = {
        key: replace(encoder, tokenizer=BYTES) if isinstance(encoder, Prompt) else encoder
        for key, encoder in config.encoders.items()
    }
    head = config.head.fit(lambda: (chunks, np.ones(chunks.shape[:2], bool)))
    config = replace(config, encoders=encoders, head=head)
    with torch.device("meta"):
        network = Network(config, config.needs(ROBOT))
    return sum(parameter.numel() for parameter in network.parameters())
