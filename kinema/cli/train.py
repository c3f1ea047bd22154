"""Train a recipe on a dataset; the same command again continues exactly where it stopped."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from kinema.cli.costs import afford, report
from kinema.cli.datasets import open_datasets
from kinema.cli.devices import check_device
from kinema.cli.progress import progress
from kinema.cli.runs import begin, end
from kinema.cli.suites import trusted_packages
from kinema.core.errors import KinemaError


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
    lora: bool = False
    """train LoRA adapters on the weights of --start alone; their options are --adapt.rank and so on"""
    ignore_memory: bool = False
    """train although a step is estimated to need more memory than there is"""
    trust: str = ""
    """packages outside kinema, separated by commas, whose parts the policy may hold; eval must be told them too"""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> int:
        """Train and say where the policy is; returns 130 when interrupted."""
        from kinema.cli.overrides import override
        from kinema.core.config import to_data
        from kinema.core.names import find
        from kinema.nets.lora import Lora
        from kinema.train.distributed import processes

        recipe = find("recipe", self.recipe)()
        if self.lora and recipe.adapt is None:
            recipe = replace(recipe, adapt=Lora())
        recipe = override(recipe, list(self.overrides), f"kinema train {self.recipe}")
        if self.print_config:
            sys.stdout.write(json.dumps(to_data(recipe), indent=2) + "\n")
            return 0
        if self.data is None:
            raise KinemaError("--data is missing: the dataset directory to train on")
        check_device(self.device)
        trusted = trusted_packages(self.trust)
        if self.dry_run:
            with processes(self.device) as group:
                report(*_prepared(recipe, self.data, group, trusted), recipe, self.out, str(group.device))
            return 0
        if self.out is None:
            raise KinemaError("--out is missing: the run directory to write")
        return train(recipe, self.data, self.out, device=self.device, trusted=trusted, ignore_memory=self.ignore_memory)


def train(
    recipe: Any,
    data: Path,
    out: Path,
    *,
    device: str = "cpu",
    trusted: tuple[str, ...] = ("kinema",),
    ignore_memory: bool = False,
) -> int:
    """Train `recipe` on the datasets that `data` names into the run directory `out`; returns an exit code."""
    from kinema.train.distributed import processes
    from kinema.train.loop import fit

    with processes(device) as group:
        datasets, prepared = _prepared(recipe, data, group, trusted)
        if group.first:
            begin(recipe, datasets, prepared, out, trusted)
        afford(prepared, recipe, group, ignore=ignore_memory)
        result = fit(
            prepared.network,
            prepared.batches,
            recipe.train,
            out,
            held_out=prepared.held_out,
            device=str(group.device),
            progress=sys.stderr,
            group=group,
        )
    command = f"kinema {shlex.join(sys.argv[1:])}"
    if result.weights is None:
        if group.first:
            sys.stderr.write(f"interrupted after step {result.step}; the same command continues: {command}\n")
        return 130
    if group.first:
        end(recipe, datasets, prepared, result, out, command, trusted)
    return 0


def _prepared(recipe: Any, data: Path, group: Any, trusted: tuple[str, ...]) -> tuple[Any, Any]:
    """Return the datasets and the recipe prepared on them; the first process does it before the others."""
    from kinema.recipes.base import prepare

    datasets = open_datasets(data)
    shown: dict[str, Any] = {}
    with group.in_turn(), contextlib.ExitStack() as bars:

        def tell(what: str, done: int, total: int) -> None:
            if not group.first:
                return
            if what not in shown:
                bars.close()
                shown[what] = bars.enter_context(progress(f"features of {what}", total))
            shown[what](done, "frames")

        return datasets, prepare(recipe, *datasets, device=str(group.device), tell=tell, trusted=trusted)
