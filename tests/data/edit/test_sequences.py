"""Any sequence of edits keeps a dataset equal to a plain in-memory model, bit for bit, with all its numbers right."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinema.core.spec import Vector
from kinema.data.edit import plan as edit
from kinema.data.edit.apply import replace as replace_dataset
from kinema.data.edit.apply import write_new
from kinema.data.lerobot.reader import Dataset

Check = Callable[[Path, Any], Dataset]
Edited = tuple[edit.Plan, Any]
OPERATIONS = ("keep", "delete", "merge", "rename", "remove", "add", "retask")
SEQUENCES = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 2**31)), min_size=1, max_size=4)
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]


def _keep(dataset: Dataset, model: Any, rng: np.random.Generator) -> Edited:
    count = int(rng.integers(1, len(model.episodes) + 1))
    chosen = rng.permutation(len(model.episodes))[:count].tolist()
    return edit.keep(dataset, chosen), replace(model, episodes=tuple(model.episodes[i] for i in chosen))


def _delete(dataset: Dataset, model: Any, rng: np.random.Generator) -> Edited | None:
    if len(model.episodes) < 2:
        return None
    gone = int(rng.integers(len(model.episodes)))
    left = tuple(row for i, row in enumerate(model.episodes) if i != gone)
    return edit.delete(dataset, (gone,)), replace(model, episodes=left)


def _merge(dataset: Dataset, model: Any, rng: np.random.Generator) -> Edited | None:
    if len(model.episodes) > 4:
        return None
    return edit.merge((dataset, dataset)), replace(model, episodes=model.episodes * 2)


def _rename(dataset: Dataset, model: Any, rng: np.random.Generator) -> Edited | None:
    keys = [key for key in model.spec.observation.keys if key != "instruction"]
    if not keys:
        return None
    key = keys[rng.integers(len(keys))]
    name = f"{'abc'[rng.integers(3)]}{rng.integers(100)}"
    new = f"{key.partition('.')[0]}.{name}"
    if new in keys:
        return None
    plan = edit.rename(dataset, key, name)
    return plan, replace(model, spec=plan.spec).mapped(lambda k: new if k == key else k)


def _remove(dataset: Dataset, model: Any, rng: np.random.Generator) -> Edited | None:
    keys = [key for key in model.spec.observation.keys if key != "instruction"]
    if not keys:
        return None
    key = keys[rng.integers(len(keys))]
    plan = edit.remove(dataset, key)
    return plan, replace(model, spec=plan.spec).mapped(lambda k: None if k == key else k)


def _add(dataset: Dataset, model: Any, rng: np.random.Generator) -> Edited | None:
    vector = Vector(name=f"n{rng.integers(100)}", components=("p", "q"), units=("m", "1"), frame="world")
    if vector.key in model.spec.observation.keys:
        return None
    values = rng.normal(size=(len(dataset), 2)).astype(np.float32)
    plan = edit.add(dataset, vector, values)
    rows, start = [], 0
    for row in model.episodes:
        length = len(row.frames["action"])
        rows.append(replace(row, frames={**row.frames, vector.key: values[start : start + length]}))
        start += length
    return plan, replace(model, spec=plan.spec, episodes=tuple(rows))


def _retask(dataset: Dataset, model: Any, rng: np.random.Generator) -> Edited:
    which, text = int(rng.integers(len(model.episodes))), f"task {rng.integers(3)}"
    rows = tuple(replace(r, instruction=text) if i == which else r for i, r in enumerate(model.episodes))
    return edit.retask(dataset, {which: text}), replace(model, episodes=rows)


_EDITS = {
    "keep": _keep, "delete": _delete, "merge": _merge, "rename": _rename, "remove": _remove, "add": _add,
    "retask": _retask,
}  # fmt: skip


def _run(steps: list[tuple[str, int]], begin: Dataset, model: Any, check: Check) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = begin
        for number, (operation, seed) in enumerate(steps):
            edited = _EDITS[operation](dataset, model, np.random.default_rng(seed))
            if edited is None:
                continue
            plan, model = edited
            if seed % 3 == 0 and dataset is not begin:
                out = dataset.root
                replace_dataset(plan)
            else:
                out = Path(folder) / f"d{number}"
                write_new(plan, out)
            dataset = check(out, model)
        left = [path.name for path in Path(folder).iterdir() if ".partial-" in path.name]
        assert not left


@settings(max_examples=6, derandomize=True, deadline=None, suppress_health_check=_CHECKS)
@given(steps=SEQUENCES)
def test_any_sequence(steps: list[tuple[str, int]], timed: tuple[Dataset, Any], check: Check) -> None:
    _run(steps, *timed, check)


@pytest.mark.slow
@settings(max_examples=1000, derandomize=True, deadline=None, suppress_health_check=_CHECKS)
@given(steps=SEQUENCES)
def test_a_thousand_sequences(steps: list[tuple[str, int]], timed: tuple[Dataset, Any], check: Check) -> None:
    _run(steps, *timed, check)
