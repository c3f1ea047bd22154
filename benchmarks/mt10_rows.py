"""The rows of the MT10 benchmark: the main run, and ablations that change one thing each of a shorter reference run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kinema.core.errors import KinemaError, unknown
from kinema.heads.regression import Regression
from kinema.policies.base import PolicyConfig
from kinema.policies.film_flow import film_flow
from kinema.recipes.base import Recipe
from kinema.recipes.metaworld_mt10 import metaworld_mt10
from kinema.train.config import TrainConfig

MAIN, REFERENCE = "main", "reference"
CAMERAS = ("corner_table", "corner2_table", "gripperPOV")
RECORDED = ("corner_table", "corner2_table", "topview_table", "gripperPOV", "behindGripper", "corner2")
"""What is recorded: every camera that a row reads, and the view from above."""

DESCRIPTIONS = {
    MAIN: "the recipe `metaworld-mt10` as it is",
    REFERENCE: "the same recipe with fewer steps; every row below differs from it in one thing",
    "no-ema": "the last weights instead of their average",
    "chunk-1": "one action predicted and executed at a time instead of 16 and 8",
    "no-language": "the policy is told nothing",
    "mse-head": "regression instead of flow matching",
    "one-camera": "one fixed view of the table",
    "corner2": "the fixed camera that published MT50 tables use, not cropped",
    "near-cameras": "only the two cameras on the arm",
}
"""Row -> what it is, in words; the order is that of the tables."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training and its evaluation: `episodes` of each task, and `controls` of each task in each control."""

    name: str
    recipe: Recipe
    episodes: int
    controls: int

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that the row's policy reads."""
        prefix = "image."
        return tuple(key.removeprefix(prefix) for key in self.recipe.policy.reads if key.startswith(prefix))


def recipe_of(name: str, ablation_steps: int) -> Recipe:
    """Return the complete configuration of the row called `name`."""
    main = metaworld_mt10()
    if name == MAIN:
        return main
    short = replace(main, train=_shortened(main, ablation_steps))
    horizons = {"pred_horizon": main.policy.pred_horizon, "exec_horizon": main.policy.exec_horizon}
    policies: dict[str, PolicyConfig] = {
        "no-language": film_flow(cameras=CAMERAS, language=None, **horizons),
        "mse-head": film_flow(cameras=CAMERAS, head=Regression(), **horizons),
        "one-camera": film_flow(cameras=("corner_table",), **horizons),
        "corner2": film_flow(cameras=("corner2",), **horizons),
        "near-cameras": film_flow(cameras=("behindGripper", "gripperPOV"), **horizons),
        "chunk-1": replace(main.policy, pred_horizon=1, exec_horizon=1),
    }
    if name in policies:
        return replace(short, policy=policies[name])
    if name == "no-ema":
        return replace(short, train=replace(short.train, ema_decay=0.0))
    if name == REFERENCE:
        return short
    raise unknown("row", name, DESCRIPTIONS)


def _shortened(main: Recipe, steps: int) -> TrainConfig:
    if steps < 1:
        raise KinemaError(f"--ablation-steps {steps}: expected at least 1")
    warmup = min(main.train.optim.warmup_steps, steps - 1)
    return replace(main.train, steps=steps, optim=replace(main.train.optim, warmup_steps=warmup))


def select(text: str) -> tuple[str, ...]:
    """Return the rows that `text` names, separated by commas and in the order of the tables; all when it is empty."""
    asked = [name.strip() for name in text.split(",")] if text else list(DESCRIPTIONS)
    for name in asked:
        if name not in DESCRIPTIONS:
            raise unknown("row", name, DESCRIPTIONS)
    return tuple(name for name in DESCRIPTIONS if name in asked)
