"""Export a trained policy as a directory that another project loads."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kinema.core.errors import KinemaError, unknown

FORMATS = ("lerobot",)


@dataclass(frozen=True, kw_only=True)
class Exporting:
    """Write the policy of the run directory POLICY as LeRobot 0.4 saves one: ACT, Diffusion Policy and SmolVLA.

    Adapters are merged into what they adapt. What is written is read back and compared, so that what LeRobot has no
    place for is an error and not a loss.
    """

    policy: Annotated[Path, tyro.conf.Positional]
    """run directory"""
    out: Path
    """directory to write"""
    format: str = "lerobot"
    """lerobot"""

    def run(self) -> int:
        """Write the directory and say what it is; returns 0."""
        from kinema.checkpoints.lerobot.export import export_lerobot
        from kinema.deploy.load import load_policy, merged_weights

        if self.format not in FORMATS:
            raise unknown("format to export to", self.format, FORMATS)
        if self.out.exists():
            raise KinemaError(f"{self.out} is there already; an export overwrites nothing")
        policy = load_policy(self.policy)
        kind = export_lerobot(policy.config, policy.spec, merged_weights(self.policy, policy.network), self.out)
        sys.stdout.write(f"{self.out}: {kind} of LeRobot 0.4, with robot.json to import it again\n")
        return 0
