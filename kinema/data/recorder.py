"""A recorder for a control loop that must not wait: rows in memory, images to disk by threads, one commit an episode.

`step` copies what it is given and returns; it touches neither disk nor encoder. A thread per camera encodes into
`.staging/` as the episode goes on. An image that is missing, or for which the camera's queue has no room because disk
or encoder are slow, is a *lost frame*: its row shows the frame before it and is marked invalid, and no later frame
moves. When the disk fails the episode is given up, the loop goes on undisturbed, and `commit` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError, SpecMismatch, UnavailableError, nearest
from kinema.core.spec import ACTION, RobotSpec
from kinema.data.lerobot.check import check_words, frame_keys
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.recording import Recording
from kinema.data.video import VideoCodec

QUEUE_FRAMES = 32


class Recorder:
    """Records episodes of one robot into the dataset at `root`, which is made when it does not exist.

    Every key has capture times, every camera validity. `queue_frames` is how many images a camera may be behind before
    frames are lost; `max_lost` ends an episode that loses more frames of a camera in a row (None: never).
    Used by one thread. Leaving the `with` block aborts an open episode.
    """

    def __init__(
        self,
        root: Path,
        spec: RobotSpec,
        *,
        codec: VideoCodec | None = None,
        provenance: Mapping[str, Any] | None = None,
        queue_frames: int = QUEUE_FRAMES,
        max_lost: int | None = None,
    ) -> None:
        if queue_frames < 1 or (max_lost is not None and max_lost < 0):
            raise KinemaError(f"queue_frames {queue_frames}, max_lost {max_lost}: expected at least 1 and 0")
        self.spec, self._keys = spec, frame_keys(spec)
        self._cameras = tuple(camera.key for camera in spec.observation.cameras)
        self.writer = DatasetWriter(
            root, spec, codec=codec, captured=self._keys, valid=self._cameras, provenance=provenance
        )
        self._queue_frames, self._max_lost = queue_frames, max_lost
        self._episode: Recording | None = None
        self._is_open = False

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open:
            self.abort(f"{kind.__name__}: {error}" if kind else "the recorder was closed before a commit")

    @property
    def problem(self) -> str | None:
        """Why the open or last episode cannot be kept, or None while all is well."""
        return self._episode.problem if self._episode else None

    @property
    def lost(self) -> dict[str, int]:
        """The number of lost frames of the open or last episode, by camera key."""
        valid = self._episode.valid if self._episode else {}
        return {key: flags.count(False) for key, flags in valid.items()}

    def begin(self, instruction: str, *, origin: Mapping[str, str | int | float] | None = None) -> None:
        """Open an episode; raises UnavailableError when the disk or another writer does not let it.

        An instruction or origin that an episode cannot have is SpecMismatch, now and not when all is recorded.
        """
        if self._is_open:
            raise KinemaError("an episode is open: commit or abort it before the next begins")
        check_words(instruction, origin or {}, self.spec)
        draft = self.writer.begin()
        try:
            self._episode = Recording(draft, self._keys, self._queue_frames, instruction, dict(origin or {}))
        except BaseException as error:
            self.writer.abort(draft, f"{type(error).__name__}: {error}")
            raise
        self._is_open = True

    def step(self, observation: Mapping[str, Any], action: np.ndarray, captured_ns: Mapping[str, int]) -> None:
        """Take one row and return at once.

        `observation` has `image.<camera>` (Hi, Wi, 3) uint8 RGB, or None for a lost frame, and `vector.<name>` (D,)
        float32; `action` is (A,) float32, in the spec's units; `captured_ns` says, by key, when each was captured and
        the action sent, on one monotonic clock [ns] (not needed for a lost frame). What does not fit the spec is
        SpecMismatch and not recorded. After a `problem` rows are dropped: `commit` will say so.
        """
        episode = self._opened()
        row = {**observation, ACTION: action}
        self._check(row, captured_ns, episode)
        if episode.problem is None:
            episode.add(row, captured_ns)
            worst = max(self._cameras, key=lambda key: episode.lost_in_a_row[key], default=None)
            if worst is not None and self._max_lost is not None and episode.lost_in_a_row[worst] > self._max_lost:
                episode.problem = f"{worst}: more than {self._max_lost} frames in a row were lost"

    def commit(self, success: bool) -> int:
        """Wait until the episode is on disk and return its index; raises UnavailableError when it could not be kept."""
        episode = self._opened()
        if episode.length == 0:
            episode.problem = episode.problem or "it has no steps"
        try:
            episode.end()
            rows = episode.rows(success) if episode.problem is None else None
        except BaseException as error:
            self.abort(f"{type(error).__name__}: {error}")
            raise
        self._is_open = False
        if rows is None:
            self.writer.abort(episode.draft, str(episode.problem))
            raise UnavailableError(f"the episode was not kept: {episode.problem}")
        try:
            return self.writer.commit(episode.draft, rows)
        except KinemaError as error:
            episode.problem = str(error)
            raise

    def abort(self, reason: str) -> None:
        """Give the open episode up; what there is of it goes to `.quarantine/` with the reason."""
        episode = self._opened()
        self._is_open = False
        episode.problem = episode.problem or reason
        try:
            episode.end()
        finally:
            self.writer.abort(episode.draft, reason)

    def _opened(self) -> Recording:
        if self._episode is None or not self._is_open:
            raise KinemaError("no episode is open: call begin() first")
        return self._episode

    def _check(self, row: Mapping[str, Any], captured_ns: Mapping[str, int], episode: Recording) -> None:
        for name in (*row, *captured_ns):
            if name not in self._keys:
                raise SpecMismatch(f"unexpected {name!r}{nearest(name, self._keys)}; expected: {', '.join(self._keys)}")
        for key in self._keys:
            if key not in row:
                raise SpecMismatch(f"{key!r} is missing; given: {', '.join(row)}")
            if row[key] is None and key in self._cameras:
                continue
            if key not in captured_ns:
                raise SpecMismatch(f"captured_ns of {key!r} is missing; given: {', '.join(captured_ns) or 'none'}")
            if not _is_int64(captured_ns[key]):
                raise SpecMismatch(f"captured_ns of {key!r} is {captured_ns[key]!r}, expected whole nanoseconds")
            before = episode.captured[key][-1] if episode.length else 0
            if captured_ns[key] < before:
                raise SpecMismatch(f"captured_ns of {key!r} goes back: {before}, then {captured_ns[key]}")
            shape = (self.spec.action.width,) if key == ACTION else self.spec.observation.shape(key)
            dtype = np.dtype(np.uint8 if key in self._cameras else np.float32)
            value = np.asarray(row[key])
            if value.shape != shape or value.dtype != dtype:
                raise SpecMismatch(f"{key}: shape {value.shape} {value.dtype}, expected {shape} {dtype}")
            if dtype == np.float32 and not np.isfinite(value).all():
                raise SpecMismatch(f"{key}: not finite: {value.tolist()}")


def _is_int64(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and -(2**63) <= int(value) < 2**63
