"""The path templates of info.json, with nothing in them that could leave the directory."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from kinema.core.errors import DataError
from kinema.data.lerobot import layout

_SPEC = re.compile(r"(0?\d{1,2})?d?")


def leaves(path: str) -> bool:
    """Return whether `path`, taken below a directory, could mean anything but a file in it, on any system."""
    plain = PurePosixPath(path)
    return not plain.parts or plain.is_absolute() or ".." in plain.parts or re.search(r"[\\:\x00]", path) is not None


class Templates:
    """The paths of info.json, with nothing in them but the format's own placeholders, inside the directory."""

    def __init__(self, root: Path, info: Mapping[str, Any], old: bool, videos: bool) -> None:
        self.root, self.chunk_size = root, info.get("chunks_size", layout.CHUNK_FILES)
        if not isinstance(self.chunk_size, int) or self.chunk_size < 1:
            raise DataError(f"{root / layout.INFO}: chunks_size is {self.chunk_size!r}, expected a whole number")
        allowed = {"episode_chunk", "episode_index"} if old else {"chunk_index", "file_index"}
        self.data = self._checked(info, "data_path", allowed)
        self.video = self._checked(info, "video_path", allowed | {"video_key"}) if videos else ""

    def path(self, template: str, **values: Any) -> Path:
        """Return the path that `template` means; raises DataError when it leaves the directory."""
        for name, value in values.items():
            if name != "video_key" and (type(value) is not int or value < 0):
                raise DataError(f"{self.root}: {name} is {value!r}, expected a whole number")
        path = template.format(**values)
        if leaves(path):
            raise DataError(f"{self.root}: the path {path!r:.200} leaves the dataset's directory")
        return self.root / path

    def _checked(self, info: Mapping[str, Any], name: str, allowed: set[str]) -> str:
        template, where = info.get(name), f"{self.root / layout.INFO}: {name} {info.get(name)!r}"
        if not isinstance(template, str):
            raise DataError(f"{where}, expected a path with {', '.join(sorted(allowed))}")
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        for _, field, spec, conversion in parts:
            if field is None:
                continue
            if (
                field not in allowed
                or conversion
                or not (_SPEC.fullmatch(spec or "") and (not spec or field != "video_key"))
            ):
                raise DataError(f"{where}: {{{field}}} is not one of {', '.join(sorted(allowed))}")
        if leaves("".join(literal if field is None else f"{literal}0" for literal, field, *_ in parts)):
            raise DataError(f"{where} leaves the dataset's directory")
        return template
