"""How long action heads take to train and to act, eager and compiled, and three of them against LeRobot's.

    sh benchmarks/lerobot_environment.sh        # once: LeRobot in an environment of its own
    python benchmarks/heads.py                  # twenty minutes, into docs/results/heads.json
    python benchmarks/heads.py --only lerobot   # half of it: the rows that LeRobot has too; the others stay as they are
    python benchmarks/heads.py --quick          # eager figures of few calls each; into WORK/quick, not into docs

Everything is float32 on the CPU with the same number of threads. A training step is loss, gradient, clipping and
optimiser for a batch of 64; acting is a chunk for each of 1 and of 64 observations. What both libraries have is built
of the same layers and sizes, down to the number of parameters, and both take turns, each time in a new process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import results

from kinema.core.errors import KinemaError, unknown
from kinema.core.manifest import cores

HERE = Path(__file__).parent
MEASURES = ("step", "sample 1", "sample 64")
SIZES: Mapping[str, Any] = {
    "width": 256,
    "pred_horizon": 16,
    "action_width": 7,
    "channels": [128, 256, 512],
    "time_width": 256,
    "steps": 10,
    "heads": 8,
    "hidden": 1024,
    "state": 128,
    "environment": 128,
    "stage": 2,
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What to build: a `kind` that the sides know, changes to the sizes, and whether LeRobot has it too."""

    kind: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    lerobot: bool = False


ROWS: Mapping[str, Row] = {
    "ACT": Row(kind="act", lerobot=True),
    "diffusion, U-Net": Row(kind="diffusion", lerobot=True),
    "VQ-BeT, stage 1": Row(kind="vq_bet", sizes={"stage": 1}, lerobot=True),
    "VQ-BeT, stage 2": Row(kind="vq_bet", lerobot=True),
    "regression": Row(kind="regression"),
    "GMM": Row(kind="gmm"),
    "parallel bins": Row(kind="categorical"),
    "autoregressive bins": Row(kind="autoregressive"),
    "flow": Row(kind="flow"),
    "diffusion, MLP": Row(kind="diffusion_mlp"),
    "diffusion, transformer": Row(kind="diffusion_transformer"),
    "consistency": Row(kind="consistency"),
    "rectified flow": Row(kind="rectified"),
    "energy": Row(kind="energy"),
    "per embodiment, two flows": Row(kind="per_embodiment"),
}
NOT_ALONE = ("parallel_slots", "text_tokens")
"""Heads that go on with a language model: what they take is the model's, and the policy's benchmark measures it."""


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Measure the heads, those that LeRobot has too in turns with LeRobot's."""

    quick: bool = False
    """two rounds of few calls; writes WORK/quick/heads.json"""
    rounds: int = 5
    """how often both sides take their turn"""
    only: Literal["all", "lerobot", "kinema"] = "all"
    """measure only the rows that LeRobot has too, or only the others"""
    rows: tuple[str, ...] = ()
    """rows to measure; all when empty"""
    threads: int = 0
    """threads of torch on both sides; 0 for the number of cores"""
    seconds: float = 0.3
    """how long to repeat each thing in each turn"""
    lerobot: Path = Path("runs/bench/lerobot")
    """environment made by lerobot_environment.sh"""
    work: Path = Path("runs/bench/heads")
    """directory of --quick and of what compilation keeps"""
    out: Path = results.RESULTS
    """directory of heads.json"""

    def run(self) -> int:
        """Measure row after row and write the results after each."""
        if not (self.lerobot / "bin/python").is_file():
            raise KinemaError(f"{self.lerobot} is missing: sh benchmarks/lerobot_environment.sh {self.lerobot}")
        for name in self.rows:
            if name not in ROWS:
                raise unknown("row", name, ROWS)
        directory = self.work / "quick" if self.quick else self.out
        asked = [
            name for name in self.rows or ROWS if self.only in ("all", "lerobot" if ROWS[name].lerobot else "kinema")
        ]
        figures = self._before(directory / "heads.json") if len(asked) < len(ROWS) else {}
        for name in asked:
            figures[name] = self._row(name, ROWS[name])
            results.write(
                "heads",
                {name: figures[name] for name in ROWS if name in figures},
                command="python benchmarks/heads.py" + " --quick" * self.quick,
                seeds=[0],
                notes=NOTES,
                directory=directory,
                threads=self._threads,
                lerobot=self._versions(),
            )
        sys.stdout.write(f"{directory / 'heads.json'}\n")
        return 0

    def _before(self, path: Path) -> dict[str, Any]:
        """Return the figures measured before, if on this machine, with these versions and as many threads."""
        if not path.is_file():
            return {}
        before = results.read(path)
        same = {**results.machine(), "threads": self._threads, "lerobot": self._versions()}
        return before["figures"] if all(before[name] == value for name, value in same.items()) else {}

    @property
    def _threads(self) -> int:
        return self.threads or cores()

    def _row(self, name: str, row: Row) -> dict[str, Any]:
        ours, theirs = [], []
        turns = (2 if self.quick else self.rounds) if row.lerobot else 1
        for number in range(turns):
            sys.stderr.write(f"{name}: round {number + 1} of {turns}\n")
            for first in (number % 2 == 0, number % 2 == 1):
                if first:
                    ours.append(self._turn(Path(sys.executable), "heads_kinema.py", row))
                elif row.lerobot:
                    theirs.append(self._turn(self.lerobot / "bin/python", "heads_lerobot.py", row))
        if not row.lerobot:
            return side(ours)
        return {**side(ours), "lerobot": side(theirs), "ratio": ratios(ours, theirs)}

    def _turn(self, python: Path, script: str, row: Row) -> dict[str, Any]:
        options = {
            "kind": row.kind,
            "sizes": {**SIZES, **row.sizes},
            "seconds": 0.05 if self.quick else self.seconds,
            "threads": self._threads,
            "modes": ["eager"] if self.quick else ["eager", "compiled"],
        }
        kept = self.work.absolute() / "compiled" / script
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(kept), "HF_HUB_OFFLINE": "1"}
        command = [str(python.absolute()), str(HERE / script), json.dumps(options)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603 - our own file
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise KinemaError(f"{script} failed with {done.returncode} at {row.kind}:\n{last}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def _versions(self) -> dict[str, str]:
        names = ("lerobot", "torch", "diffusers")
        code = f"import importlib.metadata as m; print(*(m.version(name) for name in {names!r}))"
        done = subprocess.run([self.lerobot / "bin/python", "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
        return dict(zip(names, done.stdout.split(), strict=True))


NOTES = (
    "A turn's value is the median of its calls; of rows with LeRobot the median of the turns is shown, a ratio being "
    "taken within each round. Other rows have one turn, whose spread is that of thirds of its time.",
    "The optimiser is each library's own: kinema's fused AdamW, the Adam or AdamW of LeRobot's presets, not fused.",
    "Rows with LeRobot have its sizes and one draw of noise a chunk; the others are kinema's defaults, four draws.",
    "ACT is the whole policy on two vectors of observation; the others are heads that read a vector of width 256.",
    "Compiled is torch.compile of loss and sample; of heads with a denoiser the denoiser alone, of LeRobot's ACT the "
    "network and of its VQ-BeT head all but the loss, which asks for numbers on the way. Autoregressive bins and the "
    "energy act in loops that stay eager. Figures do not contain the time of compiling.",
    "kinema's side keeps freed memory as its training does (kinema/train/memory.py), for acting as well, where `kinema "
    "eval` does not; LeRobot's side leaves this to the system, as `lerobot-train` does.",
    "VQ-BeT trains in two stages; compiled, each is a graph of its own.",
    "Rows may be measured hours apart (--rows, --only) while the machine does other things; both sides of a ratio are "
    "of one round.",
)


def side(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one side."""
    found: dict[str, Any] = {"parameters": results.once(turns[0]["parameters"], "count")}
    for mode in turns[0]["modes"]:
        found[mode] = {name: _figure([turn["modes"][mode] for turn in turns], name) for name in MEASURES}
    return found


def _figure(turns: list[dict[str, Any]], name: str) -> dict[str, Any]:
    if "broken" in turns[0]:
        return results.unavailable(turns[0]["broken"])
    parts = turns[0][name] if len(turns) == 1 else [statistics.median(turn[name]) for turn in turns]
    return results.repeated(parts, "ms")


def ratios(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many times as fast kinema is, round by round, in each mode that works on both sides."""
    found: dict[str, Any] = {}
    for mode in ours[0]["modes"]:
        pairs = [(a["modes"][mode], b["modes"][mode]) for a, b in zip(ours, theirs, strict=True)]
        if not any("broken" in turn for pair in pairs for turn in pair):
            found[mode] = {name: _ratio(pairs, name) for name in MEASURES}
    return found


def _ratio(pairs: list[tuple[dict[str, Any], dict[str, Any]]], name: str) -> dict[str, Any]:
    quotients = [statistics.median(b[name]) / statistics.median(a[name]) for a, b in pairs]
    return results.repeated(quotients, "times as fast")


def main(arguments: list[str]) -> int:
    """Return the exit code of the benchmark run with `arguments`."""
    return results.main(Heads, arguments, prog="heads")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
