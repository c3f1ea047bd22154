"""The directory that a writer opens: making it, and whether what is there fits what is to be written."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.core.config import to_data
from kinema.core.errors import DataError, KinemaError, SpecMismatch
from kinema.core.files import sync_directory, write_bytes
from kinema.core.spec import RobotSpec, check_compatible
from kinema.data.lerobot import layout
from kinema.data.lerobot.files import LOCK, sync_directories
from kinema.data.lerobot.versions import read_view
from kinema.data.lerobot.whole import check_files
from kinema.data.video import VideoCodec


def make_root(root: Path) -> None:
    """Make `root` and its `meta/`; raises DataError when it holds other things than a dataset."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_directory(folder.parent)
    foreign = [path.name for path in sorted(root.iterdir()) if path.name not in ("meta", LOCK)]
    if foreign and not (root / layout.INFO).is_file():
        raise DataError(f"{root} is not a dataset ({layout.INFO} is missing) and not empty: it holds {foreign[0]!r}")
    (root / "meta").mkdir(exist_ok=True)


def create(
    root: Path,
    spec: RobotSpec,
    codec: VideoCodec,
    timing: tuple[Sequence[str], Sequence[str]],
    provenance: Mapping[str, Any],
) -> None:
    """Make an empty dataset: meta/kinema.json, then info.json."""
    layout.write_kinema(root, spec, codec, [to_data({"from_episode": 0, **provenance})])
    sync_directories(root, [root / layout.KINEMA])
    layout.write_json(root / layout.INFO, layout.info(spec, codec, *timing, episodes=0, frames=0, tasks=0))


def own_codec(root: Path, spec: RobotSpec, codec: VideoCodec | None) -> VideoCodec:
    """Return the dataset's codec; raises SpecMismatch when spec or codec is another than it was made with."""
    stored = layout.read_kinema(root)
    check_compatible(stored["spec"], spec, have_name=f"the dataset {root}", want_name="what is being recorded")
    check_compatible(spec, stored["spec"], have_name="what is being recorded", want_name=f"the dataset {root}")
    if codec is not None and codec != stored["codec"]:
        raise SpecMismatch(f"the dataset {root} is compressed with {stored['codec']}, not {codec}")
    own: VideoCodec = stored["codec"]
    return own


def own_timing(
    root: Path, captured: Sequence[str] | None, valid: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys with capture times and with validity; raises SpecMismatch when others are asked for."""
    own = layout.timing_keys(layout.read_info(root))
    for name, asked, has in zip(("captured", "valid"), (captured, valid), own, strict=True):
        if asked is not None and set(asked) != set(has):
            raise SpecMismatch(
                f"the dataset {root} was made with {name} {', '.join(has) or 'of nothing'}, "
                f"not {', '.join(asked) or 'of nothing'}"
            )
    return own


def checked_files(root: Path, info: Mapping[str, Any]) -> set[Path]:
    """Return the files of a dataset that is whole and has its files where the writer puts them, so that they may move.

    Raises DataError for another, as other programs write them, and for what `read_view` and `check_files` refuse.
    """
    for name, own in (("data_path", (layout.DATA_PATH,)), ("video_path", (layout.VIDEO_PATH, None))):
        if info.get(name) not in own:
            raise DataError(f"{root / layout.INFO}: {name} is {info.get(name)!r}, expected {own[0]!r}")
    for name in ("data_files_size_in_mb", "video_files_size_in_mb"):
        if type(info.get(name)) not in (int, float) or not info[name] > 0:
            raise DataError(f"{root / layout.INFO}: {name} is {info.get(name)!r}, expected a size [MB]")
    if info["total_episodes"] == 0:
        return set()
    view = read_view(root)
    check_files(view)
    return set(view.files)


def fingerprint(root: Path) -> tuple[object, ...]:
    """Return what is another once anyone has appended to the dataset at `root`, edited, compacted or replaced it."""
    table = root / layout.EPISODES_PATH.format(chunk_index=0, file_index=0)
    inode = table.stat().st_ino if table.is_file() else None
    return (root / layout.INFO).read_bytes(), (root / layout.KINEMA).read_bytes(), inode


def note_provenance(root: Path, episodes: int, provenance: Mapping[str, Any]) -> None:
    """Add an entry for the episodes from here on when they come from elsewhere than those before."""
    stored = layout.read_kinema(root)
    entries = [dict(entry) for entry in stored["provenance"]]
    last = {name: value for name, value in entries[-1].items() if name != "from_episode"} if entries else None
    if to_data(provenance) != last:
        entry = to_data({"from_episode": episodes, **provenance})
        kept = [known for known in entries if known["from_episode"] < episodes]
        layout.write_kinema(root, stored["spec"], stored["codec"], [*kept, entry])


def publish(root: Path, info: Mapping[str, Any]) -> None:
    """Replace info.json, the commit point; when that fails it is as it was, if the disk lets it."""
    before = (root / layout.INFO).read_bytes()
    try:
        layout.write_json(root / layout.INFO, info)
    except KinemaError:
        # The name may be replaced but not flushed: what is told to have failed must not turn up later.
        with contextlib.suppress(KinemaError):
            write_bytes(root / layout.INFO, before)
        raise
