"""Turn recordings of a handheld gripper (UMI) into a dataset."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kinema.cli.progress import progress
from kinema.core.config import load, to_data
from kinema.core.errors import KinemaError
from kinema.core.manifest import here


@dataclass(frozen=True, kw_only=True)
class Umi:
    """Measure, align and check the recordings in a folder, and write those that are good to a LeRobotDataset v3.0.

    Each recording is a folder with one video and the trajectory that SLAM made of it, `camera_trajectory.csv`
    (ORB-SLAM3) or `trajectory.txt` (TUM). Returns 1 when every recording was refused.
    """

    session: Annotated[Path, tyro.conf.Positional]
    """folder of recordings"""
    rig: Path
    """JSON file of the rig: lens, tags, gripper range, hand, latencies, limits"""
    instruction: str
    """what is done in these recordings, in words"""
    out: Path
    """directory of the dataset"""

    def run(self) -> int:
        """Write the dataset; say of every recording what was found."""
        from kinema.data.lerobot.writer import DatasetWriter
        from kinema.data.umi.quality import make
        from kinema.data.umi.rig import Rig
        from kinema.data.umi.session import read_demonstration, recordings

        rig = load(self.rig)
        if not isinstance(rig, Rig):
            raise KinemaError(f"{self.rig} describes a {type(rig).__name__}, expected a Rig")
        self._refuse_another(rig)
        folders = recordings(self.session)
        image = f"image.{rig.camera}"
        timed = (image, *(vector.key for vector in rig.spec.observation.vectors), "action")
        provenance = here(command=f"kinema data umi --instruction {self.instruction!r}") | {"rig": rig}
        writer = DatasetWriter(self.out, rig.spec, provenance=provenance, captured=timed, valid=(image,))
        done = {origin["demonstration"] for origin in writer.origins}
        lines, kept = [], 0
        with progress("recordings", len(folders)) as tell:
            for number, folder in enumerate(folders, start=1):
                if folder.name in done:
                    kept += 1
                    continue
                episode, findings = make(read_demonstration(folder, rig, self.instruction), rig)
                if episode is not None:
                    writer.append(episode)
                    kept += 1
                lines += [f"  {folder.name}: {'refused, ' * finding.refuse}{finding}" for finding in findings]
                tell(number, f"{kept} kept")
        sys.stdout.write("\n".join([*lines, f"{self.out}: {kept} of {len(folders)} recordings kept"]) + "\n")
        return 0 if kept else 1

    def _refuse_another(self, rig: object) -> None:
        """Refuse to go on with another rig: recordings that are there would not be what they would be now."""
        from kinema.data.lerobot import layout

        if (self.out / layout.INFO).is_file():
            for entry in layout.read_kinema(self.out)["provenance"]:
                if entry.get("rig") != to_data(rig):
                    raise KinemaError(f"{self.out} was made with another rig than {self.rig}\nfix: another --out")
