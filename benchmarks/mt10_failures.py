"""How the failed episodes of an MT10 evaluation fail: how near they came, and whether they moved anything.

    python benchmarks/mt10_failures.py --run-directory DIR     # two minutes; nothing is rendered

Plays the executed actions of a finished evaluation again and measures, for the tasks whose goal and objects the suite
describes. Writes docs/results/mt10_failures.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results

from kinema.evaluation.storage import action_key, load_actions, load_evaluation
from kinema.sim.suites.metaworld import OBJECTS, MetaWorld

TASKS = ("reach", "push", "pick-place", "peg-insert-side")


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Measure failed and successful episodes of the tasks with a goal in space."""

    run_directory: Path = Path("runs/bench/mt10/main")
    """run directory with a finished evaluation"""
    out: Path = results.RESULTS
    """directory of mt10_failures.json"""

    def run(self) -> int:
        """Play the episodes again and write the figures."""
        evaluation, actions = load_evaluation(self.run_directory / "eval"), load_actions(self.run_directory / "eval")
        environment, found = MetaWorld(cameras=()).make(), {}
        for number, outcome in enumerate(evaluation.arms[0].outcomes):
            start = outcome.trial.start
            if start.task in TASKS:
                environment.begin(start)
                states = [environment.expert_state().copy()]
                for action in actions[action_key(evaluation.arms[0].name, number)]:
                    environment.step(action)
                    states.append(environment.expert_state().copy())
                ended = "succeeded" if outcome.success else "failed"
                found.setdefault((start.task, ended), []).append(_measured(start.task, np.stack(states)))
        environment.close()
        figures: dict[str, Any] = {}
        for (task, ended), rows in sorted(found.items()):
            figures.setdefault(task, {})[ended] = {
                name: results.repeated([row[name] for row in rows], "cm") for name in rows[0]
            }
        results.write(
            "mt10_failures",
            figures,
            command="python benchmarks/mt10_failures.py",
            seeds=list(evaluation.manifest.seeds),
            notes=(
                "Distances over all steps of an episode; of reach the hand's, else the object's distance to the goal.",
            ),
            directory=self.out,
            policy_hash=evaluation.manifest.policy_hash,
        )
        return 0


def _measured(task: str, states: np.ndarray) -> dict[str, float]:
    hand, goal = states[:, slice(*OBJECTS.hand)], states[:, slice(*OBJECTS.positions["goal"])]
    thing = states[:, slice(*OBJECTS.positions["object1"])]
    near = {"closest_to_goal": float(np.linalg.norm((hand if task == "reach" else thing) - goal, axis=1).min() * 100)}
    if task == "reach":
        return near
    return near | {
        "hand_closest_to_object": float(np.linalg.norm(hand - thing, axis=1).min() * 100),
        "object_moved": float(np.linalg.norm(thing - thing[0], axis=1).max() * 100),
    }


if __name__ == "__main__":
    sys.exit(results.main(Failures, sys.argv[1:], prog="mt10_failures"))
