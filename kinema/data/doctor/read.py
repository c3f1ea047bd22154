"""Reads a dataset directory into a Survey; whatever it holds, nothing is raised for content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kinema.core.errors import DataError, KinemaError
from kinema.core.manifest import cores
from kinema.core.spec import RobotSpec
from kinema.data.doctor.base import Place
from kinema.data.doctor.films import Film, scan
from kinema.data.doctor.frames import read_data
from kinema.data.doctor.rows import read_episode_rows, read_task_rows
from kinema.data.doctor.survey import DataFile, Feature, Progress, Survey
from kinema.data.lerobot import layout
from kinema.data.lerobot.templates import leaves

_PLACEHOLDER = re.compile(r"\{(chunk_index|file_index)(:0?\d{1,2}d)?\}")
_FEATURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-. ]*")
_OLD = "v2"
Trouble = list[tuple[str, Place]]


def survey(root: Path, *, deep: bool, progress: Progress | None = None) -> Survey:
    """Return what the dataset at `root` says about itself; `deep` decodes its videos.

    Raises DataError when the directory is no dataset at all, or one of LeRobotDataset v2.
    """
    trouble: Trouble = []
    _refuse_other(root)
    info = _json(root, layout.INFO, "info-unreadable", trouble)
    _refuse_old(root, info)
    features = _features(info or {}, trouble)
    templates = {name: _template(info or {}, name, trouble) for name in ("data_path", "video_path")}
    tasks, task_rows = read_task_rows(root, trouble)
    cameras = tuple(name for name, feature in features.items() if feature.dtype == "video")
    episodes = read_episode_rows(root, templates, cameras, trouble)
    files = sorted({row.data_file for row in episodes})
    videos = sorted({span.file for row in episodes for span in row.spans.values()})
    tables: dict[str, DataFile] = {}
    for name in files:
        read_data(root, name, tables, trouble)
    return Survey(
        root=root,
        info=info,
        fps=_rate((info or {}).get("fps")),
        features=features,
        tasks=tasks,
        task_rows=task_rows,
        episodes=tuple(sorted(episodes, key=lambda row: row.index)),
        stats=_json(root, layout.STATS, "stats-unreadable", trouble),
        spec=_spec(root, trouble),
        tables=tables,
        films=_films(root, videos, deep, progress),
        deep=deep,
        megabytes=_megabytes(root, [*files, *videos]),
        trouble=tuple(trouble),
    )


def _films(root: Path, names: list[str], deep: bool, progress: Progress | None) -> dict[str, Film]:
    films: dict[str, Film] = {}
    with ThreadPoolExecutor(cores()) as pool:
        for name, film in zip(names, pool.map(lambda name: scan(root / name, deep=deep), names), strict=True):
            films[name] = film
            if progress is not None:
                progress(len(films), len(names))
    return films


def _refuse_other(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root} is not a dataset: no such directory")
    if not any((root / name).exists() for name in (layout.INFO, "data", "meta/episodes", layout.KINEMA)):
        raise DataError(f"{root} is not a dataset: it has neither {layout.INFO} nor data/")


def _rate(value: Any) -> float:
    """Return frames per second, 0 where `value` is no rate: compared before `float`, which a huge one would break."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if usable else 0.0


def _json(root: Path, name: str, check: str, trouble: Trouble) -> dict[str, Any] | None:
    if not (root / name).is_file():
        trouble.append((check, Place(detail="is missing", file=name)))
        return None
    try:
        return layout.read_json(root / name)
    except (DataError, RecursionError, ValueError) as error:
        trouble.append((check, Place(detail=f"cannot be read: {error}"[:200].replace(f"{root}/", ""), file=name)))
        return None


def _refuse_old(root: Path, info: Mapping[str, Any] | None) -> None:
    version = (info or {}).get("codebase_version")
    if isinstance(version, str) and version.startswith(_OLD):
        raise DataError(
            f"{root} is a LeRobotDataset {version}; the doctor reads v3.0\n"
            f"fix: kinema data import lerobot {root} --out NEW, then kinema data doctor NEW"
        )


def _features(info: Mapping[str, Any], trouble: Trouble) -> dict[str, Feature]:
    entries = info.get("features")
    if not isinstance(entries, Mapping):
        return {}
    found = {}
    for name, entry in entries.items():
        if not _FEATURE.fullmatch(name) or ".." in name:
            trouble.append(("path-template", Place(detail=f"the feature {name!r} is no file name", file=layout.INFO)))
            continue
        shape: Any = entry.get("shape") if isinstance(entry, Mapping) else None
        whole = isinstance(shape, list) and all(type(side) is int and 0 < side < 2**31 for side in shape)
        if not whole or not isinstance(entry.get("dtype"), str):
            detail = f"feature {name!r} has no dtype and shape of whole numbers above 0: {entry!r:.80}"
            trouble.append(("info-fields", Place(detail=detail, file=layout.INFO)))
            continue
        more = entry.get("info") or entry.get("video_info")
        found[name] = Feature(dtype=entry["dtype"], shape=tuple(shape), info=more if isinstance(more, Mapping) else {})
    return found


def _template(info: Mapping[str, Any], name: str, trouble: Trouble) -> str:
    """Return the template of info.json when it stays inside the directory, else the format's own."""
    default = {"data_path": layout.DATA_PATH, "video_path": layout.VIDEO_PATH}[name]
    given = info.get(name)
    if given is None:
        return default
    plain = _PLACEHOLDER.sub("0", given) if isinstance(given, str) else ""
    if name == "video_path":
        plain = plain.replace("{video_key}", "0")
    if "{" in plain or "}" in plain or leaves(plain):
        detail = f"{name} {given!r:.100} leaves the dataset or is no template; {default!r} is used instead"
        trouble.append(("path-template", Place(detail=detail, file=layout.INFO)))
        return default
    return str(given)


def _spec(root: Path, trouble: Trouble) -> RobotSpec | None:
    if not (root / layout.KINEMA).exists():
        return None
    try:
        spec: RobotSpec = layout.read_kinema(root)["spec"]
        return spec
    except (KinemaError, RecursionError, ValueError, TypeError) as error:
        detail = f"cannot be read: {error}"[:200].replace(f"{root}/", "")
        trouble.append(("spec-unreadable", Place(detail=detail, file=layout.KINEMA)))
        return None


def _megabytes(root: Path, names: list[str]) -> float:
    paths = [root / name for name in names] + [path for path in (root / "meta").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
