"""What a training will need of memory, disk and time, said before it begins."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from kinema.cli.datasets import lines
from kinema.cli.devices import free_memory
from kinema.core.errors import KinemaError, UnavailableError

_FEW = 2
"""Samples that are tried: what a step keeps of a batch is estimated from them."""


def afford(prepared: Any, recipe: Any, group: Any, *, ignore: bool) -> None:
    """Say how much memory a step needs; raises UnavailableError where more is needed than there is, unless `ignore`."""
    from kinema.train.dry_run import dry_run

    if recipe.train.shard:
        return  # what is to be split may not fit as a whole, as it would be tried
    source = prepared.batches(0)
    batch = {key: value[:_FEW] for key, value in next(source).items()}
    source.close()
    device = str(group.device)
    available = free_memory(device)
    if device == "cpu":  # the weights are there already, in every process
        available += group.local * sum(p.numel() * p.element_size() for p in prepared.network.parameters())
    facts = dry_run(prepared.network, batch, recipe.train, device=device)
    shares = recipe.train.batch_size / group.world / len(batch["mask"])
    needed = facts.memory_bytes + (shares - 1) * facts.activation_bytes
    needed *= group.local if device == "cpu" else 1
    if group.first:
        sys.stderr.write(f"memory: about {needed / 2**20:.0f} MiB for a step, {available / 2**20:.0f} MiB available\n")
    idle = [name for name in facts.without_gradient if ".lora_" in name]
    if idle:
        raise KinemaError(f"these adapters do nothing: {', '.join(idle[:5])}\nfix: other --adapt.targets")
    if needed > available and not ignore:
        raise UnavailableError(
            f"a step needs about {needed / 2**20:.0f} MiB, {available / 2**20:.0f} MiB are available\n"
            "fix: a smaller --train.batch-size, or --ignore-memory to try all the same"
        )


def report(datasets: Any, prepared: Any, recipe: Any, out: Path | None, device: str) -> None:
    """Run one step and say what the training needs; raises KinemaError where the machine lacks it."""
    from kinema.train.dry_run import dry_run

    available = free_memory(device)
    facts = dry_run(prepared.network, next(prepared.batches(0)), recipe.train, device=device)
    wanted = Path.cwd() if out is None else out.absolute()
    place = next(path for path in (wanted, *wanted.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    # A checkpoint holds weights, their average and two moments in float32; one more exists while it is written.
    needed = 16 * facts.parameters * (recipe.train.keep_checkpoints + 1) + 4 * facts.parameters
    shown = [
        *lines(datasets, prepared),
        f"reads: {', '.join(prepared.policy.reads)}; "
        f"predicts {prepared.policy.pred_horizon} x {prepared.spec.action.width}",
        f"parameters: {facts.parameters:,} ({facts.trainable_parameters:,} trained)",
        f"one step: loss {facts.loss:.4f}, {facts.step_s:.2f} s in {facts.precision}; "
        f"all {recipe.train.steps} steps about {facts.step_s * recipe.train.steps / 60:.0f} min",
        f"memory: about {facts.memory_bytes / 2**20:.0f} MiB for the step, {available / 2**20:.0f} MiB available",
        f"disk: {needed / 2**20:.0f} MiB needed, {free / 2**30:.1f} GiB free at {place}",
    ]
    sys.stdout.write("\n".join(shown) + "\n")
    _refuse(facts, available, needed, free, place)


def _refuse(facts: Any, available: int, needed: int, free: int, place: Path) -> None:
    if facts.without_gradient:
        raise KinemaError(f"these parameters get no gradient: {', '.join(facts.without_gradient[:5])}")
    if facts.memory_bytes > available:
        raise UnavailableError(
            f"a step needs about {facts.memory_bytes / 2**20:.0f} MiB, {available / 2**20:.0f} MiB are available\n"
            "fix: a smaller --train.batch-size"
        )
    if needed > free:
        raise UnavailableError(f"{place} has {free / 2**20:.0f} MiB free, the run needs {needed / 2**20:.0f} MiB")
