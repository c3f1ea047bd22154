"""What lies in a dataset's directory and is not the dataset's: README.md, LICENSE, .git, .quarantine."""

from __future__ import annotations

import shutil
from pathlib import Path

from kinema.core.files import sync_directory


def carry_over(source: Path, target: Path, without: tuple[str, ...]) -> None:
    """Copy the entries of the directory `source`, but those called as in `without`, to `target` and flush them.

    Copied and not linked: both directories stay, and these files may be written to. Symbolic links stay links.
    """
    for path in source.iterdir():
        if path.name in without:
            continue
        copy = target / path.name
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copy2(path, copy, follow_symlinks=False)
        for made in (copy, *copy.rglob("*")):
            if not made.is_symlink():
                sync_directory(made)
