"""Four Meta-World tasks in a few minutes on two CPU cores: the run of `kinema demo`."""

from __future__ import annotations

from kinema.policies.film_flow import film_flow
from kinema.recipes.base import DataConfig, Recipe
from kinema.train.config import TrainConfig
from kinema.train.optim import OptimConfig


def metaworld_demo() -> Recipe:
    """Return a small policy over two cameras at 64 px."""
    return Recipe(
        policy=film_flow(cameras=("corner_table", "gripperPOV"), pred_horizon=16, exec_horizon=8),
        data=DataConfig(random_shift=1),
        train=TrainConfig(
            steps=1500,
            batch_size=64,
            optim=OptimConfig(learning_rate=1e-3, weight_decay=1e-4, betas=(0.9, 0.99), warmup_steps=100),
            ema_decay=0.995,
            checkpoint_every=250,
            evaluate_every=500,
        ),
    )
