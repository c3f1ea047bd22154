"""Import a policy that another project trained, as a run directory."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kinema.core import config, files
from kinema.core.errors import KinemaError
from kinema.core.manifest import here

if TYPE_CHECKING:
    from kinema.checkpoints.foreign import Foreign, Imported

ROBOT_FILE = "robot.json"


@dataclass(frozen=True, kw_only=True)
class Importing:
    """Write the policy that LeRobot, openpi or OpenVLA saved in SOURCE as a run directory, with its normalisation.

    What the checkpoint does not say of its robot (units, frames, bounds, what an action is, when a gripper closes) a
    robot.json must: --robot-out writes one to fill in. Only safetensors are read, never a pickle.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """directory of the checkpoint"""
    out: Path | None = None
    """run directory to write"""
    format: str | None = None
    """lerobot, openpi or openvla; recognised by the directory when left out"""
    robot: Path | None = None
    """JSON of the robot; robot.json in SOURCE when left out"""
    robot_out: Path | None = None
    """where to write a robot.json of what the checkpoint says, with "?" for what must be said"""
    tokenizer: Path | None = None
    """directory with the tokenizer.json of the language model, for policies that read an instruction"""
    unnorm_key: str | None = None
    """dataset whose statistics scale the actions, for openvla"""

    def run(self) -> int:
        """Write the policy, or a robot.json to fill in, and say what it is; returns 0."""
        from kinema.checkpoints.foreign import Choices
        from kinema.checkpoints.recognise import recognise
        from kinema.core.names import find

        if (self.out is None) == (self.robot_out is None):
            raise KinemaError("give either --out for the policy or --robot-out for a robot.json to fill in")
        if self.robot is not None and self.robot_out is not None:
            raise KinemaError("--robot is for --out: --robot-out writes what the checkpoint says of its robot")
        name = self.format or recognise(self.source)
        found = find("checkpoint", name)(self.source, Choices(tokenizer=self.tokenizer, unnorm_key=self.unnorm_key))
        if self.robot_out is not None:
            return self._write_robot(found, self.robot_out)
        out = self.out or Path()
        if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
            raise KinemaError(f"{out} is there already and not empty; an import overwrites nothing")
        imported = found.imported(self._robot(found))
        write(imported, out, source=self.source, format=name, read=found.files, command=self._command())
        sys.stdout.write(f"{out}: {imported.facts['policy']} of {name}, {found.said}\n")
        rule = imported.facts.get("chunking")
        sys.stdout.write(f"next: kinema eval {out}" + f' --chunking "{rule}"' * (rule is not None) + "\n")
        return 0

    def _robot(self, found: Foreign) -> object:
        from kinema.checkpoints.foreign import read_robot

        path = self.robot or self.source / ROBOT_FILE
        if not path.is_file():
            raise KinemaError(
                f"{path} does not exist: {self.source} says no units, frames, bounds, rate, kind of action or gripper\n"
                f"it says {found.said}\n"
                f"fix: kinema import {self.source} --robot-out robot.json, fill in what is '?', give --robot robot.json"
            )
        return read_robot(path, found.said)

    def _write_robot(self, found: Foreign, path: Path) -> int:
        if path.exists():
            raise KinemaError(f"{path} is there already; a robot is not overwritten")
        files.write_text(path, json.dumps(found.said.template(), indent=2) + "\n")
        sys.stdout.write(f"{path}: {found.said}\n  fill in what is '?'\n")
        sys.stdout.write(f"next: kinema import {self.source} --robot {path} --out POLICY\n")
        return 0

    def _command(self) -> str:
        given = {name: value for name, value in vars(self).items() if value is not None and name != "source"}
        words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return shlex.join(["kinema", "import", str(self.source), *words])


def write(imported: Imported, out: Path, *, source: Path, format: str, read: tuple[Path, ...], command: str) -> None:
    """Write policy.json, weights.safetensors and run.json; raises CheckpointError unless every weight has its place."""
    import torch

    from kinema.checkpoints.foreign import digests
    from kinema.checkpoints.settings import reading
    from kinema.deploy.load import POLICY_FILE, WEIGHTS_FILE, StoredPolicy
    from kinema.nets.ema import named_weights
    from kinema.policies.network import Network, fingerprint
    from kinema.train.weights import fill, save_weights

    spec = imported.policy.needs(imported.spec)
    with reading(source), torch.device("meta"):
        network = Network(imported.policy, spec)
    fill(named_weights(network), imported.weights, source)
    network.load_state_dict(dict(imported.weights), strict=False, assign=True)
    manifest = {
        "imported": {"format": format, **imported.facts, "source": str(source.resolve()), "sha256": digests(read)},
        "result": {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "policy_hash": fingerprint(imported.policy, spec, network),
        },
        **here(command=command),
    }
    out.mkdir(parents=True, exist_ok=True)
    save_weights(named_weights(network), out / WEIGHTS_FILE)
    config.save(StoredPolicy(spec=spec, policy=imported.policy), out / POLICY_FILE)
    files.write_text(out / "run.json", json.dumps(manifest, indent=2) + "\n")
