"""Push a dataset to a hub of datasets, or pull one."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from kinema.core.errors import KinemaError, UnavailableError

if TYPE_CHECKING:
    from kinema.data.lerobot.versions import View

TREES = ["meta/**", "data/**", "videos/**"]
PARTS = [*TREES, "README.md"]
"""What belongs to a dataset; caches, locks and what is in quarantine does not."""


@dataclass(frozen=True, kw_only=True)
class Hub:
    """`push DIR REPO_ID` uploads a whole dataset and tags its version; `pull REPO_ID --out DIR` fetches one.

    The hub and the token are those of huggingface_hub (HF_ENDPOINT, `hf auth login`). Nothing that is pulled is run.
    """

    action: Annotated[Literal["push", "pull"], tyro.conf.Positional]
    """what to do"""
    names: Annotated[tuple[str, ...], tyro.conf.Positional]
    """DIR REPO_ID to push, REPO_ID to pull"""
    out: Path | None = None
    """directory to pull into"""
    revision: str | None = None
    """branch, tag or commit"""
    private: bool = False
    """push to a repository that only its owner sees"""

    def run(self) -> int:
        """Push or pull, then say what was moved; returns 0."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        # OSError, and the error of the HTTP library that this version of huggingface_hub uses.
        failures: tuple[Any, ...] = HfHubHTTPError.__bases__
        expected = 2 if self.action == "push" else 1
        if len(self.names) != expected or (self.out is None) == (self.action == "pull"):
            raise KinemaError("expected `push DIR REPO_ID` or `pull REPO_ID --out DIR`")
        try:
            view = self._push() if self.action == "push" else self._pull()
        except HFValidationError as error:
            raise KinemaError(f"{self.names[-1]!r} is not the name of a repository: {error}") from error
        except failures as error:
            raise UnavailableError(f"the hub did not answer as hoped for {self.names[-1]}: {error}") from error
        frames = sum(row.length for row in view.episodes)
        sys.stdout.write(
            f"{self.action}ed {self.names[-1]}: {view.version}, {len(view.episodes)} episodes, {frames} frames, "
            f"cameras: {', '.join(view.cameras) or 'none'}\n"
        )
        return 0

    def _push(self) -> View:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RevisionNotFoundError

        root, repo = Path(self.names[0]), self.names[1]
        view = _whole(root)
        api = HfApi()
        api.create_repo(repo, repo_type="dataset", private=self.private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=root,
            repo_type="dataset",
            revision=self.revision,
            allow_patterns=PARTS,
            delete_patterns=TREES,
            commit_message=f"{len(view.episodes)} episodes",
        )
        # A tag that is there would stay on the commit of an earlier push, and readers ask for the tag.
        with contextlib.suppress(RevisionNotFoundError):
            api.delete_tag(repo, tag=view.version, repo_type="dataset")
        api.create_tag(repo, tag=view.version, revision=self.revision, repo_type="dataset")
        return view

    def _pull(self) -> View:
        from huggingface_hub import snapshot_download

        out = self.out or Path()
        if out.exists() and any(out.iterdir()) and not (out / ".cache/huggingface").is_dir():
            raise KinemaError(f"{out} is not empty and was not pulled: choose another --out")
        snapshot_download(
            self.names[0], repo_type="dataset", revision=self.revision, local_dir=out, allow_patterns=PARTS
        )
        return _whole(out)


def _whole(root: Path) -> View:
    from kinema.data.lerobot.versions import read_view
    from kinema.data.lerobot.whole import check_files

    view = read_view(root)
    check_files(view)
    return view
