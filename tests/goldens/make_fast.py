"""Write tests/goldens/fast with LeRobot's copy of the FAST processor (Apache-2.0), which is executed and not copied.

    pip download --no-deps lerobot==0.6.1
    python tests/goldens/make_fast.py lerobot-0.6.1-py3-none-any.whl

Needs transformers, tokenizers and scipy. One `.npz` a case: the chunks that it was fitted to and 200 others [1/4096],
the tokens that the reference makes of these, one row after the other, and 20 chunks as it decodes them. `plus/` is a
directory of the layout in which the universal tokenizer FAST+ is published, `plus.npz` what it makes of the others.
"""

from __future__ import annotations

import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent / "fast"
SOURCE = "lerobot/policies/molmoact2/molmoact2_hf_model/action_tokenizer.py"
CASES = {"joints": (15, 7), "bimanual": (50, 14), "noise": (8, 3)}
"""Steps and components of each."""


def reference(wheel: Path) -> Any:
    """Return the class UniversalActionProcessor of the wheel; its import of the whole policy is stubbed."""
    packages = ("reference", "reference.model")
    for name in packages:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []  # type: ignore[attr-defined]
    stub = types.ModuleType("reference.modeling_molmoact2")
    stub._hf_token = None  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    module = types.ModuleType("reference.model.action_tokenizer")
    module.__package__ = "reference.model"
    with zipfile.ZipFile(wheel) as archive:
        exec(compile(archive.read(SOURCE), SOURCE, "exec"), vars(module))
    return vars(module)["UniversalActionProcessor"]


def chunks(case: str, count: int, seed: int) -> np.ndarray:
    """Return chunks (count, H, A) int16 of 1/4096: minimum-jerk moves between random points, some noisy."""
    steps, width = CASES[case]
    rng = np.random.default_rng((seed, steps, width))
    if case == "noise":
        return np.round(4096 * rng.uniform(-1, 1, (count, steps, width))).astype(np.int16)
    time = np.linspace(0, 1, steps)[None, :, None]
    start, end = rng.uniform(-1, 1, (2, count, 1, width))
    moves = start + (end - start) * (10 * time**3 - 15 * time**4 + 6 * time**5)
    moves[::4] = start[::4]  # a quarter stands still, anywhere
    moves += rng.normal(size=moves.shape) * rng.choice([0.0, 0.02, 0.1], (count, 1, 1))
    return np.round(4096 * np.clip(moves, -1, 1)).astype(np.int16)


def save(name: str, processor: Any, fitted: np.ndarray, others: np.ndarray) -> None:
    """Write what the reference makes of `others`, and the first 20 as it decodes them."""
    rows = processor(others / 4096)
    decoded = processor.decode(rows[:20], time_horizon=others.shape[1], action_dim=others.shape[2])
    np.savez_compressed(
        HERE / f"{name}.npz",
        fitted=fitted,
        others=others,
        tokens=np.concatenate(rows).astype(np.int16),
        lengths=np.array([len(row) for row in rows], np.int16),
        decoded=decoded,
        lowest=processor.min_token,
    )


def main() -> int:
    """Write every case."""
    processors = reference(Path(sys.argv[1]))
    HERE.mkdir(exist_ok=True)
    for case in CASES:
        fitted, others = chunks(case, 200, seed=0), chunks(case, 200, seed=1)
        # The reference loses what lies above the range of its fit.
        fitted[0, :, 0], fitted[1, :, 0] = 4096, -4096
        processor = processors.fit(list(fitted / 4096), scale=10, vocab_size=1024)
        save(case, processor, fitted, others)
    fitted = np.concatenate([chunks("joints", 400, seed=2) * 3.0, chunks("joints", 400, seed=3)])
    processor = processors.fit(list(fitted / 4096), scale=20, vocab_size=768)
    save("plus", processor, fitted[:0], chunks("joints", 200, seed=1))
    processor.bpe_tokenizer.save_pretrained(str(HERE / "plus"))
    settings = {"action_dim": None, "time_horizon": None, "processor_class": "UniversalActionProcessor"}
    settings |= {"min_token": processor.min_token, "scale": processor.scale, "vocab_size": processor.vocab_size}
    (HERE / "plus" / "processor_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
