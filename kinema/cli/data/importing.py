"""Import recordings of another format as a LeRobotDataset v3.0."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kinema.cli.progress import progress
from kinema.core.errors import KinemaError, SpecMismatch

if TYPE_CHECKING:
    from kinema.core.episode import Episode
    from kinema.core.spec import RobotSpec
    from kinema.data.cards import Card
    from kinema.data.importers.base import Source


@dataclass(frozen=True, kw_only=True)
class Importing:
    """Write the episodes of a foreign recording to a LeRobotDataset v3.0; the same command again goes on.

    What the recording does not say of itself (units, frames, bounds) a card must: --card-out writes one to fill in.
    """

    format: Annotated[str, tyro.conf.Positional]
    """format of the recording, see `kinema list importers`"""
    source: Annotated[Path, tyro.conf.Positional]
    """file or directory of the recording"""
    out: Path | None = None
    """directory of the dataset"""
    card: Path | None = None
    """JSON of the card that says what the fields mean"""
    card_out: Path | None = None
    """where to write a card of what the recording says, with "?" for what must be said"""
    episodes: str | None = None
    """part of the episodes: 0:10 for the first ten, 4 for one"""

    def run(self) -> int:
        """Write the card or the dataset and say what is in it; returns 0."""
        from kinema.core.config import save
        from kinema.core.names import find

        if (self.out is None) == (self.card_out is None):
            raise KinemaError("give either --out for the dataset or --card-out for a card to fill in")
        source = find("importer", self.format)(self.source)
        if self.card_out is not None:
            card = self._card(source)
            if self.card_out.exists():
                raise KinemaError(f"{self.card_out} is there already; a card is not overwritten")
            save(card, self.card_out)
            unsaid = card.missing()
            sys.stdout.write(f"{self.card_out}: a card of {len(source)} episodes\n")
            sys.stdout.writelines(f"  {line}\n" for line in unsaid)
            sys.stdout.write(f"next: kinema data import {self.format} {self.source} --card {self.card_out} --out DIR\n")
            return 0
        return self._import(source, self._card(source), self.out or Path())

    def _card(self, source: Source) -> Card:
        from kinema.data.lerobot.meaning import read_card

        return source.card if self.card is None else read_card(self.card)

    def _import(self, source: Source, card: Card, out: Path) -> int:
        from kinema.data.importers.base import episodes, spec_of
        from kinema.data.lerobot.writer import DatasetWriter

        try:
            spec = spec_of(source, card)
        except SpecMismatch as error:
            fix = "" if self.card else f"\nfix: kinema data import {self.format} {self.source} --card-out card.json"
            raise SpecMismatch(f"{error}{fix}") from None
        marks = {"import": self.format, "source": str(self.source.resolve())}
        there = _there(out, spec, card, marks)
        todo = [index for index in _chosen(self.episodes, len(source)) if index not in there]
        marked = _marked(episodes(source, card, todo, streamed=True), todo, marks)
        first = next(marked, None)
        if first is not None:
            provenance = {**marks, "card": card, "command": self._command(out)}
            captured, valid = tuple(first.captured_ns), tuple(first.valid)
            writer = DatasetWriter(out, spec, captured=captured, valid=valid, provenance=provenance)
            with progress("import", len(todo)) as tell:
                writer.append(first)
                tell(1, "")
                for done, episode in enumerate(marked, start=2):
                    writer.append(episode)
                    tell(done, episode.instruction[:40])
        return _summary(out, len(todo))

    def _command(self, out: Path) -> str:
        options = {"--card": self.card, "--out": out, "--episodes": self.episodes}
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        return shlex.join(["kinema", "data", "import", self.format, str(self.source), *given])


def _there(out: Path, spec: RobotSpec, card: Card, marks: dict[str, str]) -> set[object]:
    """Return the numbers of the source's episodes that are in `out`; raises KinemaError for those of another card."""
    from kinema.core.config import to_data
    from kinema.data.lerobot import layout
    from kinema.data.lerobot.writer import DatasetWriter

    if not (out / layout.INFO).is_file():
        return set()
    origins = DatasetWriter(out, spec).origins
    for entry in layout.read_kinema(out)["provenance"]:
        if entry.items() >= marks.items() and entry.get("card") != to_data(card):
            raise KinemaError(f"{out} holds episodes of {marks['source']} made with another card\nfix: another --out")
    return {o["import_episode"] for o in origins if o.items() >= marks.items() and "import_episode" in o}


def _marked(found: Iterator[Episode], numbers: list[int], marks: dict[str, str]) -> Iterator[Episode]:
    for number, episode in zip(numbers, found, strict=True):
        yield replace(episode, origin={**episode.origin, **marks, "import_episode": number})


def _chosen(text: str | None, total: int) -> list[int]:
    """Return the episodes that `text` names: all, one, or a half-open range."""
    if text is None:
        return list(range(total))
    first, colon, last = text.partition(":")
    try:
        begin = int(first or 0)
        end = (int(last) if last else total) if colon else begin + 1
    except ValueError:
        raise KinemaError(f"--episodes {text}: expected a number or a range such as 0:10") from None
    if not 0 <= begin < end <= total:
        raise KinemaError(f"--episodes {text}: there are episodes 0 to {total - 1}")
    return list(range(begin, end))


def _summary(out: Path, new: int) -> int:
    from kinema.data.lerobot.reader import open_dataset

    dataset = open_dataset(out)
    cameras = ", ".join(f"{c.name} {c.height}x{c.width}" for c in dataset.spec.observation.cameras) or "none"
    sys.stdout.write(
        f"{out}: {len(dataset.episodes)} episodes ({new} new)\n"
        f"  frames: {len(dataset)} at {dataset.fps:g} Hz\n"
        f"  cameras: {cameras}\n"
        f"  tasks: {len(dataset.tasks)}\n"
    )
    return 0
