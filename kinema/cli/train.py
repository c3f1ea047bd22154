"""Train a recipe on a dataset; the same command again continues exactly where it stopped."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from kinema.cli.datasets import content_hash, facts, lines, open_datasets
from kinema.cli.devices import check_device, free_memory
from kinema.cli.info import read_json
from kinema.cli.kept import keep
from kinema.cli.progress import progress
from kinema.cli.suites import trusted_packages
from kinema.core.errors import CheckpointError, KinemaError, UnavailableError

DATA_FILE = "data.json"
"""In a run directory: which data is trained on, written before the first step."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train RECIPE on the dataset DATA and write the policy to OUT.

    Every leaf of the recipe is an option: `kinema train RECIPE --help` lists them with their values.
    """

    recipe: Annotated[str, tyro.conf.Positional]
    """recipe to train, see `kinema list recipes`"""
    data: Path | None = None
    """dataset directory, or several of one robot separated by commas"""
    out: Path | None = None
    """run directory"""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps"""
    print_config: bool = False
    """print the complete configuration and stop"""
    dry_run: bool = False
    """check data, specs, disk and memory, run one step and stop"""
    trust: str = ""
    """packages outside kinema, separated by commas, whose parts the policy may hold; eval must be told them too"""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> int:
        """Train and say where the policy is; returns 130 when interrupted."""
        from kinema.cli.overrides import override
        from kinema.core.config import to_data
        from kinema.core.names import find

        recipe = override(find("recipe", self.recipe)(), list(self.overrides), f"kinema train {self.recipe}")
        if self.print_config:
            sys.stdout.write(json.dumps(to_data(recipe), indent=2) + "\n")
            return 0
        if self.data is None:
            raise KinemaError("--data is missing: the dataset directory to train on")
        check_device(self.device)
        if self.dry_run:
            return _dry_run(recipe, self.data, self.out, self.device)
        if self.out is None:
            raise KinemaError("--out is missing: the run directory to write")
        return train(recipe, self.data, self.out, device=self.device, trusted=trusted_packages(self.trust))


def train(recipe: Any, data: Path, out: Path, *, device: str = "cpu", trusted: tuple[str, ...] = ("kinema",)) -> int:
    """Train `recipe` on the datasets that `data` names into the run directory `out`; returns an exit code."""
    from kinema.core import config, files
    from kinema.core.manifest import here
    from kinema.deploy.load import POLICY_FILE, StoredPolicy
    from kinema.policies.base import fingerprint
    from kinema.train.config import refuse_changes
    from kinema.train.loop import fit
    from kinema.train.weights import load_weights

    datasets, prepared = _prepared(recipe, data, device)
    _make(out)
    stored = StoredPolicy(spec=prepared.spec, policy=prepared.policy)
    config.from_data(config.to_data(stored), trusted=trusted)  # what could not be loaded again is not trained
    trained_on = {"content_hash": content_hash(datasets), **config.to_data(recipe.data)}
    if prepared.excluded_episodes:
        trained_on["excluded_episodes"] = list(prepared.excluded_episodes)
    keep(out / DATA_FILE, trained_on, begun=(out / POLICY_FILE).exists())
    if (out / POLICY_FILE).exists():
        refuse_changes(read_json(out / POLICY_FILE, CheckpointError), config.to_data(stored), out / POLICY_FILE)
    config.save(stored, out / POLICY_FILE)
    result = fit(
        prepared.network,
        prepared.batches,
        recipe.train,
        out,
        held_out=prepared.held_out,
        device=device,
        progress=sys.stderr,
    )
    command = f"kinema {shlex.join(sys.argv[1:])}"
    if result.weights is None:
        sys.stderr.write(f"interrupted after step {result.step}; the same command continues: {command}\n")
        return 130
    load_weights(prepared.network, result.weights)  # the averaged ones: what `kinema eval` will load
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
            "parameters": sum(p.numel() for p in prepared.network.parameters()),
            "policy_hash": fingerprint(prepared.policy, prepared.spec, prepared.network),
        },
        **here(command=command),
    }
    files.write_text(out / "run.json", json.dumps(manifest, indent=2) + "\n")
    sys.stdout.write(f"{out}: {result.status} after {result.step} steps, loss {result.loss:.4f}\n")
    sys.stdout.write(f"next: kinema eval {out}\n")
    return 0


def _prepared(recipe: Any, data: Path, device: str) -> tuple[Any, Any]:
    """Return the datasets and the recipe prepared on them."""
    from kinema.recipes.base import prepare

    datasets = open_datasets(data)
    shown: dict[str, Any] = {}
    with contextlib.ExitStack() as bars:

        def tell(what: str, done: int, total: int) -> None:
            if what not in shown:
                bars.close()
                shown[what] = bars.enter_context(progress(f"features of {what}", total))
            shown[what](done, "frames")

        return datasets, prepare(recipe, *datasets, device=device, tell=tell)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise UnavailableError(f"cannot write to {out}: {error.strerror or error}") from error


def _dry_run(recipe: Any, data: Path, out: Path | None, device: str) -> int:
    from kinema.train.dry_run import dry_run

    datasets, prepared = _prepared(recipe, data, device)
    batch = next(prepared.batches(0))
    facts = dry_run(prepared.network, batch, recipe.train, device=device)
    wanted = Path.cwd() if out is None else out.absolute()
    place = next(path for path in (wanted, *wanted.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    # A checkpoint holds weights, their average and two moments in float32; one more exists while it is written.
    needed = 16 * facts.parameters * (recipe.train.keep_checkpoints + 1) + 4 * facts.parameters
    available = free_memory()
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
    if facts.without_gradient:
        raise KinemaError(f"these parameters get no gradient: {', '.join(facts.without_gradient[:5])}")
    if facts.memory_bytes > available and device == "cpu":
        raise UnavailableError(
            f"a step needs about {facts.memory_bytes / 2**20:.0f} MiB, {available / 2**20:.0f} MiB are available\n"
            "fix: a smaller --train.batch-size"
        )
    if needed > free:
        raise UnavailableError(f"{place} has {free / 2**20:.0f} MiB free, the run needs {needed / 2**20:.0f} MiB")
    return 0
