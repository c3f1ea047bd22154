"""Write what LeRobot's own classes do with chunks: temporal ensembling, action queues, prefix weights.

    python tests/goldens/chunking/make_chunking.py tests/goldens/chunking/lerobot.npz

Needs an environment with lerobot 0.4.4. Policies are stand-ins whose chunks are given; what is recorded is LeRobot's.
"""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
import torch
from lerobot.configs.types import RTCAttentionSchedule
from lerobot.policies.act.modeling_act import ACTPolicy, ACTTemporalEnsembler
from lerobot.policies.diffusion.modeling_diffusion import DiffusionModel
from lerobot.policies.rtc.action_queue import ActionQueue
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.policies.rtc.modeling_rtc import RTCProcessor

HORIZON, STEPS = 8, 200


def labelled(query: int, horizon: int) -> torch.Tensor:
    """Return a chunk (1, H, 2) whose rows say which query they are of, and their index."""
    return torch.stack([torch.full((horizon,), float(query)), torch.arange(float(horizon))], -1)[None]


def ensembles(chunks: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the executed actions (T, B, A) for `chunks` (T, B, H, A), one query a step, by coefficient."""
    made = {}
    for decay in (0.0, 0.01, 0.1, 1.0):
        ensembler = ACTTemporalEnsembler(decay, HORIZON)
        made[f"ensemble/{decay}"] = torch.stack([ensembler.update(chunk) for chunk in chunks]).numpy()
    return made


def act_queue() -> np.ndarray:
    """Return (T, 2) query and index of the actions that ACT's queue gives when 5 of 8 are run."""
    queries: list[int] = []

    def predict(batch: object) -> torch.Tensor:
        queries.append(len(queries))
        return labelled(queries[-1], HORIZON)

    policy = SimpleNamespace(
        config=SimpleNamespace(temporal_ensemble_coeff=None, n_action_steps=5),
        _action_queue=deque(maxlen=5),
        predict_action_chunk=predict,
        eval=lambda: None,
    )
    return torch.cat([ACTPolicy.select_action(policy, {}) for _ in range(STEPS)]).numpy()


def diffusion_indices() -> dict[str, np.ndarray]:
    """Return for (T_o, T_a, T_p) the indices that Diffusion Policy runs of its chunk."""
    made = {}
    for observed, run, predicted in ((2, 8, 16), (1, 8, 16), (3, 4, 8)):
        model = SimpleNamespace(
            config=SimpleNamespace(n_obs_steps=observed, n_action_steps=run),
            _prepare_global_conditioning=lambda batch: None,
            conditional_sample=lambda size, global_cond, noise, h=predicted: labelled(0, h),
        )
        chunk = DiffusionModel.generate_actions(model, {"observation.state": torch.zeros(1, observed, 1)})
        made[f"diffusion/{observed}-{run}-{predicted}"] = chunk[0, :, 1].numpy()
    return made


def realtime_queue(delay: int, every: int, horizon: int) -> np.ndarray:
    """Return (T, 2) query and index of what is run when a chunk is asked for every few steps and comes later."""
    queue = ActionQueue(RTCConfig(enabled=True))
    queue.merge(labelled(0, horizon)[0], labelled(0, horizon)[0], 0)
    done, asked = [], deque[int]()
    for step in range(60):
        if step and step % every == 0:
            asked.append(step)
        if asked and step == asked[0] + delay:
            chunk = labelled(asked.popleft() // every, horizon)[0]
            queue.merge(chunk, chunk, delay, None)
        done.append(queue.get())
    return torch.stack(done).numpy()


def main() -> None:
    chunks = torch.randn(40, 2, HORIZON, 3, generator=torch.Generator().manual_seed(0))
    chunks[5, 0, 2] = 0.0  # a prediction that is exactly zero counts like any other
    made = {"chunks": chunks.numpy(), **ensembles(chunks), "act_queue": act_queue(), **diffusion_indices()}
    processor = RTCProcessor(RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.EXP))
    for delay, every, horizon in ((4, 4, 16), (0, 5, 16), (8, 8, 16), (3, 5, 50), (2, 14, 16)):
        weights = processor.get_prefix_weights(delay, horizon - every, horizon)
        made[f"weights/{delay}-{every}-{horizon}"] = weights.numpy()
    for delay, every, horizon in ((3, 5, 16), (0, 4, 8), (4, 4, 8), (2, 8, 16)):
        made[f"realtime/{delay}-{every}-{horizon}"] = realtime_queue(delay, every, horizon)
    np.savez_compressed(Path(sys.argv[1]), **made)


if __name__ == "__main__":
    main()
