"""Load directories that `kinema export` wrote in LeRobot 0.4.4, and write what their policies say in robot units.

    python tests/goldens/check_lerobot_export.py DIR... tests/goldens/lerobot_loads_exports.json

Observations and noise are those of make_lerobot_checkpoints.py. `missing` are weights that LeRobot's own initialisation
keeps: constants that it computes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import make_lerobot_checkpoints as golden
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from safetensors import safe_open


def loaded(path: Path) -> dict[str, Any]:
    """Return what the policy in `path` says."""
    config = PreTrainedConfig.from_pretrained(path)
    policy = get_policy_class(config.type).from_pretrained(path)
    policy.eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(path))
    with safe_open(path / "model.safetensors", framework="pt") as file:
        stored = set(file.keys())
    renamed = before.steps[0].rename_map
    cameras = tuple(key.removeprefix("observation.images.") for key in config.image_features)
    back = {new: old for old, new in renamed.items()}

    def observed(names: tuple[str, ...], step: int) -> Any:
        return {back.get(key, key): value for key, value in plain(names, step).items()}

    plain, golden.observed = golden.observed, observed
    steps, count = config.n_obs_steps, config.n_action_steps
    with torch.no_grad():
        chunk = golden.said(policy, before, after, cameras, steps, count)
    golden.observed = plain
    missing = sorted(set(policy.state_dict()) - stored)
    return {"type": config.type, "chunk": chunk.tolist(), "missing": missing, "renamed": renamed}


if __name__ == "__main__":
    *folders, out = (Path(name) for name in sys.argv[1:])
    said = {folder.name: loaded(folder) for folder in folders}
    out.write_text(json.dumps(said) + "\n", "utf-8")
