"""Ten Meta-World tasks from three cameras and language, within an hour of training on two CPU cores."""

from __future__ import annotations

from kinema.policies.film_flow import film_flow
from kinema.recipes.base import DataConfig, Recipe
from kinema.train.config import TrainConfig
from kinema.train.optim import OptimConfig


def metaworld_mt10() -> Recipe:
    """Return the run of `benchmarks/metaworld_mt10.py`."""
    return Recipe(
        policy=film_flow(cameras=("corner_table", "corner2_table", "gripperPOV"), pred_horizon=16, exec_horizon=8),
        data=DataConfig(random_shift=2),
        train=TrainConfig(
            steps=7000,
            batch_size=64,
            optim=OptimConfig(learning_rate=5e-4, weight_decay=1e-4, betas=(0.9, 0.99), warmup_steps=200),
            ema_decay=0.999,
            evaluate_every=1000,
        ),
    )
