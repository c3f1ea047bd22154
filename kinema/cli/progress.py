"""Progress for people: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int, str], None]
"""Called with how much is done and a few words on how it goes."""

_QUIET_S = 10.0


@contextmanager
def progress(title: str, total: int) -> Iterator[Tell]:
    """Yield the function that shows how far the work of `total` parts is, on stderr."""
    if sys.stderr.isatty():
        with _bar(title, total) as shown:
            yield shown
        return
    last = [time.monotonic()]

    def tell(done: int, words: str) -> None:
        if done >= total or time.monotonic() - last[0] >= _QUIET_S:
            last[0] = time.monotonic()
            sys.stderr.write(f"{title}: {done}/{total} {words}\n")
            sys.stderr.flush()

    yield tell


@contextmanager
def _bar(title: str, total: int) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=total, words="")
        yield lambda done, words: shown.update(task, completed=done, words=words)
