"""Checks of the metadata: info.json, the tasks and episodes tables, the spec, and what lies around."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from kinema.core.errors import KinemaError
from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.survey import Survey
from kinema.data.lerobot import layout
from kinema.data.lerobot.files import STAGING


def reported(check: str) -> Callable[[Survey], list[Place]]:
    """Return the check that reports what the reader noted under its id."""
    return lambda survey: survey.troubles(check)


def info_version(survey: Survey) -> Iterator[Place]:
    """Another codebase_version than v3.0; v2 never comes this far."""
    version = (survey.info or {}).get("codebase_version")
    if version != layout.CODEBASE_VERSION:
        new = re.fullmatch(r"v[3-9]\.\d+", str(version)) is not None
        word = "is newer than what is known here" if new else "is not a version"
        yield Place(detail=f"codebase_version {version!r} {word}; expected 'v3.0'", file=layout.INFO)


def info_fields(survey: Survey) -> Iterator[Place]:
    """Counts, rate and features that are missing or of another type."""
    info = survey.info or {}
    for name in ("total_episodes", "total_frames", "total_tasks", "fps"):
        value = info.get(name)
        fits = survey.fps > 0 if name == "fps" else type(value) is int and value >= 0
        if not fits:
            yield Place(detail=f"{name} is {value!r:.60}, expected a whole number", file=layout.INFO)
    if not survey.features:
        yield Place(detail=f"features is {info.get('features')!r:.60}, expected a mapping", file=layout.INFO)
    yield from survey.troubles("info-fields")


def totals(survey: Survey) -> Iterator[Place]:
    """Counts of info.json that differ from the tables."""
    info, episodes = survey.info or {}, survey.episodes
    found = {
        "total_episodes": len(episodes),
        "total_frames": sum(episode.length for episode in episodes),
        "total_tasks": survey.task_rows,
    }
    for name, count in found.items():
        if type(info.get(name)) is int and info[name] != count:
            yield Place(detail=f"{name} is {info[name]}, the tables hold {count}", file=layout.INFO)
    splits = info.get("splits")
    for name, text in splits.items() if isinstance(splits, dict) else ():
        ends = re.fullmatch(r"(\d+):(\d+)", text) if isinstance(text, str) else None
        if ends is None or int(ends[2]) > len(episodes):
            yield Place(detail=f"split {name!r} is {text!r:.40}, there are {len(episodes)} episodes", file=layout.INFO)


def spec_mismatch(survey: Survey) -> Iterator[Place]:
    """Features or rate of info.json that are not what the typed spec says."""
    if survey.spec is None:
        return
    try:
        codec = layout.read_kinema(survey.root)["codec"]
        expected = layout.features(survey.spec, codec)
        rate = layout.frames_per_second(survey.spec)
    except KinemaError as error:
        yield Place(detail=str(error)[:200], file=layout.KINEMA)
        return
    if survey.fps and survey.fps != rate:
        yield Place(detail=f"info.json says {survey.fps:g} fps, the spec {rate}", file=layout.INFO)
    for name, entry in expected.items():
        own = survey.features.get(name)
        if own is None or (own.dtype, list(own.shape)) != (entry["dtype"], entry["shape"]):
            said = "nothing" if own is None else f"{own.dtype} {list(own.shape)}"
            detail = f"{name}: info.json says {said}, the spec {entry['dtype']} {entry['shape']}"
            yield Place(detail=detail, file=layout.INFO)


def leftovers(survey: Survey) -> Iterator[Place]:
    """Files that a killed writer or decoder left, and episode files that no episode owns."""
    for path in leftover_files(survey):
        kind = "staged" if path.startswith(STAGING) else "temporary" if path.endswith(".tmp") else "owned by no episode"
        yield Place(detail=kind, file=path)


def leftover_files(survey: Survey) -> list[str]:
    """Return the files that belong to no committed episode, relative to the root."""
    root = survey.root
    found = [path for path in (root / STAGING).rglob("*") if path.is_file()]
    found += [*root.glob("meta/**/.*.tmp"), *root.glob(".cache/*/.*.tmp")]
    doubts = ("episodes-unreadable", "episode-columns", "path-template")
    if survey.episodes and not any(survey.troubles(doubt) for doubt in doubts):
        owned = {episode.data_file for episode in survey.episodes}
        owned |= {span.file for episode in survey.episodes for span in episode.spans.values()}
        files = [*root.glob("data/chunk-*/*.parquet"), *root.glob("videos/**/*.mp4")]
        found += [path for path in files if path.relative_to(root).as_posix() not in owned]
    return sorted(path.relative_to(root).as_posix() for path in found)


CHECKS = (
    Check(
        id="info-unreadable",
        severity="error",
        meaning="meta/info.json is missing or no JSON object, so nothing says what the dataset holds",
        fix="restore the file from a copy; all other checks wait for it",
        run=reported("info-unreadable"),
        needs=(),
    ),
    Check(
        id="info-version",
        severity="error",
        meaning="the dataset was written in a version of the format that is not known here",
        fix="convert it with `kinema data import lerobot`, or update kinema",
        run=info_version,
    ),
    Check(
        id="info-fields",
        severity="error",
        meaning="info.json lacks a field or holds one of another type",
        fix="restore the file from a copy, or correct the field by hand",
        run=info_fields,
    ),
    Check(
        id="path-template",
        severity="error",
        meaning="a path in info.json points outside the dataset: reading it could reach any file of this machine",
        fix="do not use this dataset before its origin is clear; then write the format's own templates",
        run=reported("path-template"),
    ),
    Check(
        id="totals",
        severity="error",
        meaning="info.json counts other episodes, frames or tasks than the tables hold (a writer was killed)",
        fix="`kinema data doctor DIR --fix` writes the counts of the tables, when these agree",
        run=totals,
    ),
    Check(
        id="spec-unreadable",
        severity="error",
        meaning="meta/kinema.json cannot be read: units, frames and conventions are unknown",
        fix="restore the file from a copy",
        run=reported("spec-unreadable"),
        needs=(),
    ),
    Check(
        id="spec-mismatch",
        severity="error",
        meaning="meta/kinema.json and meta/info.json describe different robots",
        fix="restore whichever file was changed",
        run=spec_mismatch,
        needs=("info", "spec"),
    ),
    Check(
        id="leftovers",
        severity="warning",
        meaning="files lie around that no committed episode owns: a writer was killed",
        fix="`kinema data doctor DIR --fix` moves them to .quarantine/",
        run=leftovers,
        needs=(),
    ),
)
