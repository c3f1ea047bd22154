"""Writes the RLDS golden with TensorFlow Datasets: `python tests/goldens/make_rlds.py` where that is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
LENGTHS = (4, 6, 3)
INSTRUCTIONS = ("pick up the cup", "öffne die Schublade", "push the block")


def pictures(steps: int, seed: int) -> np.ndarray:
    """Return (steps, 24, 32, 3) uint8: a ramp in each colour and a square that moves, so that any turn shows."""
    rows, columns = np.mgrid[0:24, 0:32]
    image = np.stack([40 + 5 * rows, 60 + 4 * columns, np.full_like(rows, 50 + 10 * seed)], axis=-1)
    images = np.repeat(image[None], steps, axis=0).astype(np.uint8)
    for step in range(steps):
        images[step, 4:9, step : step + 5] = (230, 20, 30)
    return images


def arrays(episode: int) -> dict[str, np.ndarray]:
    """Return what the episode holds, by the names of the importer's fields."""
    rng = np.random.default_rng(episode)
    steps = LENGTHS[episode]
    return {
        "steps/action": rng.normal(size=(steps, 7)).astype(np.float32),
        "steps/observation/state": rng.normal(size=(steps, 3)).astype(np.float32),
        "steps/observation/gripper_closed": rng.integers(0, 2, steps).astype(bool),
        "steps/observation/image": pictures(steps, episode),
        "steps/observation/wrist_image": pictures(steps, episode + 5),
    }


def main() -> None:
    import tensorflow_datasets as tfds

    observation = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(24, 32, 3), encoding_format="jpeg"),
            "wrist_image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "state": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            "gripper_closed": tfds.features.Scalar(dtype=np.bool_),
        }
    )
    step = tfds.features.FeaturesDict(
        {
            "observation": observation,
            "action": tfds.features.Tensor(shape=(7,), dtype=np.float32),
            "reward": tfds.features.Scalar(dtype=np.float32),
            "discount": tfds.features.Scalar(dtype=np.float32),
            "is_first": tfds.features.Scalar(dtype=np.bool_),
            "is_last": tfds.features.Scalar(dtype=np.bool_),
            "is_terminal": tfds.features.Scalar(dtype=np.bool_),
            "language_instruction": tfds.features.Text(),
            "language_embedding": tfds.features.Tensor(shape=(4,), dtype=np.float32, encoding="bytes"),
        }
    )
    features = tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(step),
            "episode_metadata": tfds.features.FeaturesDict({"file_path": tfds.features.Text()}),
        }
    )

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples((0, 1)), "val": self._generate_examples((2,))}

        def _generate_examples(self, which):
            for episode in which:
                yield episode, {"steps": steps(episode), "episode_metadata": {"file_path": f"raw/{episode}.npy"}}

    target = HERE / "rlds"
    shutil.rmtree(target, ignore_errors=True)
    Tiny(data_dir=str(target)).download_and_prepare()


def steps(episode: int) -> list[dict]:
    content, count = arrays(episode), LENGTHS[episode]
    return [
        {
            "observation": {
                name.rsplit("/", 1)[1]: values[t] for name, values in content.items() if "observation" in name
            },
            "action": content["steps/action"][t],
            "reward": float(t == count - 1),
            "discount": 1.0,
            "is_first": t == 0,
            "is_last": t == count - 1,
            "is_terminal": t == count - 1,
            "language_instruction": INSTRUCTIONS[episode],
            "language_embedding": np.zeros(4, np.float32),
        }
        for t in range(count)
    ]


if __name__ == "__main__":
    main()
