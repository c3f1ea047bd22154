"""One episode while it is recorded: rows in memory, and a thread between the control loop and each camera's video."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kinema.core.episode import Episode
from kinema.core.errors import KinemaError
from kinema.data.lerobot.draft import Draft, DraftVideo


class Recording:
    """The rows of the open episode and the threads that take its images."""

    def __init__(
        self,
        draft: Draft,
        keys: tuple[str, ...],
        queue_frames: int,
        instruction: str,
        origin: Mapping[str, str | int | float],
    ) -> None:
        self.draft, self.instruction, self.origin = draft, instruction, origin
        self.length = 0
        self.problem: str | None = None
        self.frames: dict[str, list[np.ndarray]] = {key: [] for key in keys if key not in draft.videos}
        self.captured: dict[str, list[int]] = {key: [] for key in keys}
        self.valid: dict[str, list[bool]] = {key: [] for key in draft.videos}
        self.lost_in_a_row = dict.fromkeys(draft.videos, 0)
        self._spools = {key: Spool(video, queue_frames, self._failed) for key, video in draft.videos.items()}

    def add(self, row: Mapping[str, Any], captured_ns: Mapping[str, int]) -> None:
        """Take one checked row; all that was given is copied."""
        for key, frames in self.frames.items():
            frames.append(np.array(row[key]))
        for key, flags in self.valid.items():
            kept = row[key] is not None and self._spools[key].offer(self.length, row[key])
            flags.append(kept)
            self.lost_in_a_row[key] = 0 if kept else self.lost_in_a_row[key] + 1
        for key, times in self.captured.items():
            lost = key in self.valid and not self.valid[key][-1]
            # A lost frame's row shows the frame before it, and says so in its capture time too.
            times.append((times[-1] if times else 0) if lost else int(captured_ns[key]))
        self.length += 1

    def end(self) -> None:
        """Wait until every video is complete on disk; with a problem, only until the writes under way return."""
        for spool in self._spools.values():
            spool.end(self.length, give_up=self.problem is not None)
        for spool in self._spools.values():
            spool.join()

    def rows(self, success: bool) -> Episode:
        """Return the episode without its images."""
        return Episode(
            instruction=self.instruction,
            frames={key: np.stack(values) for key, values in self.frames.items()},
            success=success,
            origin=self.origin,
            captured_ns={key: np.array(times, np.int64) for key, times in self.captured.items()},
            valid={key: np.array(flags, bool) for key, flags in self.valid.items()},
        )

    def _failed(self, message: str) -> None:
        self.problem = self.problem or message


class Spool(threading.Thread):
    """Encodes one camera's images, each at its own row; rows without an image repeat the one before."""

    def __init__(self, video: DraftVideo, queue_frames: int, failed: Callable[[str], None]) -> None:
        super().__init__(name=f"record {video.path.stem}", daemon=True)
        self._video, self._failed, self._stopped, self._ended = video, failed, False, False
        self._images: queue.Queue[tuple[int, np.ndarray | None]] = queue.Queue(queue_frames)
        self._last: np.ndarray | None = None
        self.start()

    def offer(self, row: int, image: np.ndarray) -> bool:
        """Return whether there was room for the image of `row`; never waits."""
        # Only this side fills the queue, so that room seen is room kept, and a full queue costs no copy.
        if self._images.full():
            return False
        self._images.put_nowait((row, np.array(image)))
        return True

    def end(self, rows: int, *, give_up: bool) -> None:
        """Ask for the end after `rows` rows, or at once; waits for room in the queue."""
        self._stopped = give_up
        self._images.put((rows, None))

    def run(self) -> None:
        """Write images until the end is asked for; a failure is told once, and what comes after it is dropped."""
        try:
            self._write_all()
        except (KinemaError, OSError) as error:
            self._failed(str(error))
        finally:
            while not self._ended:
                self._ended = self._images.get()[1] is None

    def _write_all(self) -> None:
        while not self._ended:
            row, image = self._images.get()
            self._ended = image is None
            while len(self._video) < row and not self._stopped:
                # Before the first image there is only black to repeat.
                self._video.write(self._video.black if self._last is None else self._last)
            if image is not None and not self._stopped:
                self._video.write(image)
                self._last = image
        if not self._stopped:
            self._video.finish()
