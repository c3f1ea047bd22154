"""One part of the speed benchmark in a process of its own: `python speed_parts.py PART OPTIONS_AS_JSON`.

The last line of stdout is a JSON object: the part's figures and the peak memory of the process.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from results import ROOT, once, repeated, unavailable

from kinema.core.errors import UnavailableError
from kinema.core.manifest import now

FIGURES = dict[str, Any]
SEED = 0
TASK = "drawer-close"
SYNTHETIC = {"episodes": 10, "length": 40}


def rendering(*, sizes: Sequence[int], repeats: int, sample_s: float) -> FIGURES:
    """Return frames/s of both qualities by size, measured in turns in this process, and the ratio of each turn."""
    import os

    from kinema.core.episode import Start
    from kinema.sim.rendering import choose_backend
    from kinema.sim.suites.metaworld import MetaWorld

    try:
        backend = choose_backend()
    except UnavailableError as error:
        return unavailable(str(error).splitlines()[0] + f" (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')})")
    figures: FIGURES = {"backend": backend, "camera": "corner_table", "task": TASK}
    for size in sizes:
        made = {
            name: MetaWorld(cameras=("corner_table",), size=size, rendering=name).make() for name in ("fast", "full")
        }
        for environment in made.values():
            environment.begin(Start(task=TASK, seed=SEED, episode=0))
            environment.observe()
        turns = [{name: _per_second(e.observe, sample_s) for name, e in made.items()} for _ in range(repeats)]
        for environment in made.values():
            environment.close()
        figures[str(size)] = {
            "fast": repeated([turn["fast"] for turn in turns], "frames/s"),
            "full": repeated([turn["full"] for turn in turns], "frames/s"),
            "ratio": repeated([turn["fast"] / turn["full"] for turn in turns], "times as fast"),
        }
    return figures


def _per_second(call: Callable[[], Any], sample_s: float) -> float:
    """Return how often `call` runs in a second, over at least `sample_s` and two calls."""
    began, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < sample_s or count < 2:
        call()
        count += 1
    return count / taken


def recording(*, repeats: int, episodes: int, workers: int) -> FIGURES:
    """Return recorded steps/s and frames/s of what `kinema record` does, after its workers have started."""
    from kinema.data.lerobot.writer import DatasetWriter
    from kinema.sim.collect import Collection, collect
    from kinema.sim.suites.metaworld import MetaWorld

    suite = MetaWorld()
    cameras = len(suite.cameras)
    rates = []
    for repeat in range(repeats):
        plan = Collection(tasks=(TASK,), episodes=episodes, seed=repeat)
        began, steps = 0.0, 0
        with tempfile.TemporaryDirectory() as folder:
            writer = DatasetWriter(Path(folder) / "data", suite.spec)
            for attempt in collect(suite, plan, done=set(), workers=workers):
                # The clock starts at the first result: before it, workers import and build their simulators.
                steps += attempt.steps if began and attempt.episode is not None else 0
                if attempt.episode is not None:
                    writer.append(attempt.episode)
                began = began or time.perf_counter()
            rates.append(steps / (time.perf_counter() - began))
    return {
        "task": TASK,
        "cameras": cameras,
        "size": suite.size,
        "workers": workers,
        "steps": repeated(rates, "steps/s"),
        "frames": repeated([rate * cameras for rate in rates], "frames/s"),
    }


def training(*, recipe: str, rounds: int, window: int, windows: int) -> FIGURES:
    """Return training samples/s in fp32 and bf16, measured in turns, and the ratio of each turn."""
    from kinema.train.step import choose_precision

    with prepared(recipe) as (configuration, made):
        import torch

        rates: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for turn in range(rounds):
            for precision in ("fp32", "bf16") if turn % 2 == 0 else ("bf16", "fp32"):
                rates[precision] += _fit(configuration, made, precision, window, windows)
        cut = min(map(len, rates.values()))
        ratios = [rates["bf16"][i] / rates["fp32"][i] for i in range(cut)]
        return {
            "recipe": recipe,
            "batch_size": configuration.train.batch_size,
            "threads": torch.get_num_threads(),
            "auto": choose_precision("auto", torch.device("cpu")),
            "parameters": sum(p.numel() for p in made.network.parameters()),
            **{precision: repeated(values, "samples/s") for precision, values in rates.items()},
            "ratio": repeated(ratios, "times as fast"),
        }


def allocator(*, recipe: str, pairs: int, window: int, windows: int) -> FIGURES:
    """Return samples/s with and without `keep_freed_memory`, each in processes of its own, in turns."""
    rates: dict[str, list[float]] = {"kept": [], "returned": []}
    for pair in range(pairs):
        for name in ("kept", "returned") if pair % 2 == 0 else ("returned", "kept"):
            options = {"recipe": recipe, "keep": name == "kept", "window": window, "windows": windows}
            command = [sys.executable, __file__, "one-training", json.dumps(options)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this file
            rates[name].append(float(json.loads(done.stdout.strip().splitlines()[-1])["samples_per_s"]["value"]))
    ratios = [kept / returned for kept, returned in zip(rates["kept"], rates["returned"], strict=True)]
    figures = {name: repeated(values, "samples/s") for name, values in rates.items()}
    return {"recipe": recipe, **figures, "ratio": repeated(ratios, "times as fast")}


def one_training(*, recipe: str, keep: bool, window: int, windows: int) -> FIGURES:
    """Return samples/s of one short training in this process, in the recipe's own precision."""
    from kinema.train import loop

    if not keep:
        # `fit` has no option for this on purpose; here the question is what it brings.
        loop.keep_freed_memory = lambda: False
    with prepared(recipe) as (configuration, made):
        return {"samples_per_s": repeated(_fit(configuration, made, "auto", window, windows), "samples/s")}


def _fit(recipe: Any, made: Any, precision: str, window: int, windows: int) -> list[float]:
    """Return samples/s of `windows` stretches of `window` steps of a real training, after one to warm up."""
    from kinema.train.logging import read_log
    from kinema.train.loop import LOG, fit

    steps = window * (windows + 1)
    config = replace(
        recipe.train,
        steps=steps,
        precision=precision,
        log_every=window,
        checkpoint_every=steps + 1,
        evaluate_every=0,
        optim=replace(recipe.train.optim, warmup_steps=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(made.network, made.batches, config, Path(folder))
        rows = [row for row in read_log(Path(folder) / LOG) if row["kind"] == "train"]
    return [float(row["samples_per_s"]) for row in rows[1:]]


def loading(*, recipe: str, repeats: int, batches: int) -> FIGURES:
    """Return batches/s that the loader prepares, augmentation and normalisation included, when nobody else works."""
    with prepared(recipe) as (configuration, made):
        source = made.batches(0)
        for _ in range(6):  # what was prepared ahead before the clock starts must not count
            next(source)
        rates = []
        for _ in range(repeats):
            began = time.perf_counter()
            for _ in range(batches):
                next(source)
            rates.append(batches / (time.perf_counter() - began))
        source.close()
        size = configuration.train.batch_size
        return {"recipe": recipe, "batch_size": size, "batches": repeated(rates, "batches/s")}


def inference(*, recipe: str, batches: Sequence[int], calls: int) -> FIGURES:
    """Return the milliseconds of a policy's `act` by batch size: from raw observations to actions in robot units."""
    from kinema.policies.base import ComposedPolicy

    with prepared(recipe) as (_, made):
        policy = ComposedPolicy(made.policy, made.spec, made.network)
        figures: FIGURES = {"recipe": recipe, "exec_horizon": made.policy.exec_horizon}
        for batch in batches:
            observation = _observation(policy, batch)
            policy.reset(range(batch), seeds=range(batch))
            taken = []
            for call in range(calls + 3):
                began = time.perf_counter()
                policy.act(observation)
                if call >= 3:  # the first calls embed the instruction and choose kernels
                    taken.append(1e3 * (time.perf_counter() - began))
            p50, p95, p99 = (float(p) for p in np.percentile(taken, (50, 95, 99)))
            figures[f"batch-{batch}"] = repeated(taken, "ms", p50=p50, p95=p95, p99=p99)
        return figures


def _observation(policy: Any, batch: int) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    spec, steps = policy.spec.observation, policy.obs_horizon
    images = {c.key: rng.integers(0, 256, (batch, steps, c.height, c.width, 3), np.uint8) for c in spec.cameras}
    vectors = {v.key: rng.random((batch, steps, len(v.components)), np.float32) for v in spec.vectors}
    words = {"instruction": ["close the drawer"] * batch} if spec.instruction else {}
    return {**images, **vectors, **words}


@contextmanager
def prepared(name: str) -> Iterator[tuple[Any, Any]]:
    """Yield the recipe called `name`, and it prepared on a small synthetic dataset."""
    from kinema.core.names import find
    from kinema.data.lerobot.reader import open_dataset
    from kinema.recipes.base import prepare

    recipe = find("recipe", name)()
    cameras = tuple(key.removeprefix("image.") for key in recipe.policy.reads if key.startswith("image."))
    size = 64 if name == "metaworld-demo" else 96
    with tempfile.TemporaryDirectory() as folder:
        _write_synthetic(Path(folder) / "data", cameras, size)
        yield recipe, prepare(recipe, open_dataset(Path(folder) / "data"))


def _write_synthetic(root: Path, cameras: tuple[str, ...], size: int) -> None:
    """Write episodes of squares that move, in the format and with the spec of real ones."""
    from kinema.core.episode import Episode
    from kinema.data.lerobot.writer import DatasetWriter
    from kinema.sim.suites.metaworld import MetaWorld

    spec = MetaWorld(cameras=cameras, size=size).spec
    writer = DatasetWriter(root, spec)
    length = SYNTHETIC["length"]
    for number in range(SYNTHETIC["episodes"]):
        rng = np.random.default_rng((SEED, number))
        frames: dict[str, np.ndarray] = {}
        for camera in cameras:
            pictures = np.full((length, size, size, 3), rng.integers(60, 200, 3), np.uint8)
            for step in range(length):
                pictures[step, step % (size - 8) :][:8, 8:24] = (220, 40, 40)
            frames[f"image.{camera}"] = pictures
        frames["vector.proprioception"] = rng.normal(size=(length, 4)).astype(np.float32)
        frames["action"] = rng.uniform(-1.0, 1.0, (length, 4)).astype(np.float32)
        origin = {"task": TASK, "seed": SEED, "episode": number}
        writer.append(Episode(instruction="close the drawer", frames=frames, success=True, origin=origin))


def start_up(*, repeats: int) -> FIGURES:
    """Return the milliseconds from nothing to the end of a fresh interpreter that does very little."""
    kinema = "import sys; sys.argv = ['kinema', {!r}]\nfrom kinema.cli.main import main; sys.exit(main())"
    codes = {
        "python alone": "pass",
        "import kinema": "import kinema",
        "kinema --help": kinema.format("--help"),
        "kinema list": kinema.format("list"),
    }
    figures = {}
    for name, code in codes.items():
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)  # noqa: S603
            taken.append(1e3 * (time.perf_counter() - began))
        figures[name] = repeated(taken, "ms")
    return figures


def memory() -> FIGURES:
    """Return the largest resident memory so far of this process and of its largest child."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # the BSDs count bytes, Linux KiB
    own, children = (
        resource.getrusage(who).ru_maxrss / unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    found = {"process": once(round(own, 1), "MiB")}
    return {**found, "largest child": once(round(children, 1), "MiB")} if children else found


PARTS: Mapping[str, Callable[..., FIGURES]] = {
    "rendering": rendering,
    "recording": recording,
    "training": training,
    "loading": loading,
    "inference": inference,
    "allocator": allocator,
    "one-training": one_training,
    "start-up": start_up,
}


def main(part: str, options: str) -> None:
    """Measure one part and write its figures to stdout."""
    figures = PARTS[part](**json.loads(options))
    if "unavailable" not in figures:
        figures |= {"memory": memory(), "measured": now()}
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
