"""Devices as the command line names them."""

from __future__ import annotations

import os
from pathlib import Path

from kinema.core.errors import UnavailableError, unknown

KINDS = ("cpu", "cuda", "mps", "xpu")


def check_device(name: str) -> None:
    """Raise a KinemaError unless tensors can be made on the device called `name`."""
    import torch

    if name.partition(":")[0] not in KINDS:
        raise unknown("--device", name, KINDS)
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise UnavailableError(f"--device {name!r} cannot be used here: {reason:.200}\nfix: --device cpu") from error


def free_memory(device: str = "cpu") -> int:
    """Return how many bytes of memory a process can still take on `device`.

    That is main memory for all but cuda; without Linux's account of it, all that the machine has.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
