"""What a run directory says beside the weights: what is trained, on which data, and how it ended."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinema.cli.datasets import content_hash, facts
from kinema.cli.info import read_json
from kinema.cli.kept import keep
from kinema.core.errors import CheckpointError, UnavailableError

DATA_FILE = "data.json"
"""In a run directory: which data is trained on, written before the first step."""


def begin(recipe: Any, datasets: Any, prepared: Any, out: Path, trusted: tuple[str, ...]) -> None:
    """Write what is trained on which data, before the first step; going on with anything else is refused."""
    from kinema.core import config
    from kinema.deploy.load import POLICY_FILE, StoredPolicy
    from kinema.train.config import refuse_changes

    _make(out)
    # Of both what is behind links: the way back is taken from the directory itself.
    start = recipe.start and os.path.relpath(Path(recipe.start).resolve(), out.resolve())
    adapter = prepared.adapter and replace(prepared.adapter, base=start)
    stored = StoredPolicy(spec=prepared.spec, policy=prepared.policy, adapter=adapter)
    config.from_data(config.to_data(stored), trusted=trusted)  # what could not be loaded again is not trained
    trained_on = {"content_hash": content_hash(datasets), **config.to_data(recipe.data)}
    if prepared.excluded_episodes:
        trained_on["excluded_episodes"] = list(prepared.excluded_episodes)
    if start is not None:
        trained_on["start"] = start
    keep(out / DATA_FILE, trained_on, begun=(out / POLICY_FILE).exists())
    if (out / POLICY_FILE).exists():
        refuse_changes(read_json(out / POLICY_FILE, CheckpointError), config.to_data(stored), out / POLICY_FILE)
    config.save(stored, out / POLICY_FILE)


def end(
    recipe: Any, datasets: Any, prepared: Any, result: Any, out: Path, command: str, trusted: tuple[str, ...]
) -> None:
    """Write how the training ended, and say where the policy is."""
    from kinema.core import config, files
    from kinema.core.manifest import here
    from kinema.deploy.load import load_policy
    from kinema.policies.network import fingerprint
    from kinema.train.weights import load_weights

    # The averaged weights: what `kinema eval` will load. What was split between processes is read anew.
    network = load_policy(out, trusted=trusted).network if recipe.train.shard else prepared.network
    load_weights(network, result.weights)
    manifest = {
        "trained": config.to_data(recipe),
        "data": facts(datasets, prepared),
        "result": {
            "steps": result.step,
            "status": result.status,
            "loss": result.loss,
            "held_out_loss": result.held_out_loss,
            "precision": result.precision,
            "elapsed_s": round(result.elapsed_s, 1),
            "parameters": sum(p.numel() for p in network.parameters()),
            "policy_hash": fingerprint(prepared.policy, prepared.spec, network),
        },
        **here(command=command),
    }
    files.write_text(out / "run.json", json.dumps(manifest, indent=2) + "\n")
    sys.stdout.write(f"{out}: {result.status} after {result.step} steps, loss {result.loss:.4f}\n")
    sys.stdout.write(f"next: kinema eval {out}\n")


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise UnavailableError(f"cannot write to {out}: {error.strerror or error}") from error
