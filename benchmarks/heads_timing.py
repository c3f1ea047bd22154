"""What both sides of the heads' speed benchmark measure in the same way; torch and the standard library alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

BATCH = 64


@dataclass(frozen=True)
class Subject:
    """What is measured: a training step of a batch of 64, and for a batch size what draws as many chunks."""

    module: nn.Module
    step: Callable[[], Any]
    sample: Callable[[int], Callable[[], Any]]


def measured(make: Callable[[bool], Subject], options: dict[str, Any]) -> dict[str, Any]:
    """Return milliseconds of each thing in each mode, `make(compiled)` being asked for a new subject each time."""
    torch.set_num_threads(options["threads"])
    found: dict[str, Any] = {}
    for mode in options["modes"]:
        torch.manual_seed(0)
        torch._dynamo.reset()
        subject = make(mode == "compiled")
        try:
            found[mode] = _of(subject, options["seconds"])
        except RuntimeError as error:  # what torch cannot compile
            if mode == "eager":
                raise
            found[mode] = {"broken": (str(error).strip().splitlines() or ["no message"])[0]}
    return {"parameters": sum(p.numel() for p in subject.module.parameters()), "modes": found}


def _of(subject: Subject, seconds: float) -> dict[str, list[float]]:
    subject.module.train()
    found = {"step": timed(subject.step, seconds)}
    subject.module.eval()
    for batch in (1, BATCH):
        found[f"sample {batch}"] = timed(subject.sample(batch), seconds)
    return found


def timed(call: Callable[[], Any], seconds: float) -> list[float]:
    """Return the median milliseconds of a call in each third of `seconds`, or of three calls, after two to warm up."""
    for _ in range(2):
        call()
    parts: list[float] = []
    while len(parts) < 3:
        began, times = time.perf_counter(), []
        while not times or time.perf_counter() - began < seconds / 3:
            before = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - before))
        parts.append(statistics.median(times))
    return parts
