"""Manners of worker processes: Ctrl-C and the end of the main process are the main process's business."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process


def become_worker() -> None:
    """In a child process: leave Ctrl-C to the main process, and end when it ends, even if it was killed."""
    parent = parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, name="follow-parent", daemon=True).start()
