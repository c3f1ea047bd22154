"""The words of the doctor: a check, what it finds, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from kinema.data.doctor.survey import Survey

Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place where something is wrong: what, in which episode, in which file (relative to the dataset)."""

    detail: str
    episode: int | None = None
    file: str | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question to a dataset: what it means when it finds something, and what to do, in one line each.

    `needs` names what must be there for it to run: "info" (a readable info.json), "spec" (meta/kinema.json),
    "frames" (decoded video), "capture" (columns of capture times), "rate" (frames per second), "action".
    """

    id: str
    severity: Severity
    meaning: str
    fix: str
    run: Callable[[Survey], Iterable[Place]]
    needs: tuple[str, ...] = ("info",)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found at one place."""

    check: str
    severity: Severity
    episode: int | None
    file: str | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings about the dataset at `root`, which checks ran, and which were skipped and why."""

    root: str
    episodes: int
    frames: int
    cameras: tuple[str, ...]
    deep: bool
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    megabytes: float
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def bad_episodes(self) -> tuple[int, ...]:
        """The episodes with at least one finding, sorted."""
        return tuple(sorted({finding.episode for finding in self.findings if finding.episode is not None}))

    @property
    def verdict(self) -> str:
        """One sentence: how many errors and warnings, in how many episodes."""
        if self.healthy:
            return f"No problem found in {self.episodes} episodes by {len(self.checked)} checks."
        count = Counter(finding.severity for finding in self.findings)
        parts = [f"{count[kind]} {kind}{'s' * (count[kind] != 1)}" for kind in ("error", "warning") if count[kind]]
        where = f", in {len(self.bad_episodes)} of {self.episodes} episodes" if self.bad_episodes else ""
        return f"{' and '.join(parts)}{where}."

    def by_check(self) -> Iterator[tuple[str, list[Finding]]]:
        """Yield (check id, its findings), errors first."""
        order = sorted({finding.check: finding.severity for finding in self.findings}.items(), key=lambda item: item[1])
        for name, _ in order:
            yield name, [finding for finding in self.findings if finding.check == name]

    def to_data(self) -> dict[str, Any]:
        """Return the report as plain JSON data."""
        data = asdict(self)
        return {**data, "verdict": self.verdict, "bad_episodes": list(self.bad_episodes), "skipped": dict(self.skipped)}
