"""Typed parsing with tyro; what it refuses becomes a KinemaError that names the nearest match."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import tyro

from kinema.core.errors import KinemaError, nearest

T = TypeVar("T")


class UnknownOption(KinemaError):
    """An option that nobody knows; `among` says it again with the nearest of further options."""

    def __init__(self, name: str, allowed: Iterable[str], prog: str) -> None:
        self.name, self.allowed, self.prog = name, list(allowed), prog
        dashed = name.replace("_", "-")
        same = [option for option in self.allowed if _last(option) == _last(dashed)]
        only = f"; did you mean {same[0]!r}?" if len(same) == 1 else ""
        match = only or nearest(dashed, same) or nearest(dashed, self.allowed)
        super().__init__(f"unknown option {name!r}{match}\n`{prog} --help` shows the options")

    def among(self, more: Iterable[str]) -> UnknownOption:
        """Return this error as it reads when the options `more` are allowed too."""
        return UnknownOption(self.name, [*self.allowed, *more], self.prog)


_FRAME = re.compile(r"^(?:[│|] |  )|\s*[│|]?$")
_RULE = re.compile(r"[╭╰]|[│| ]*[─-]{10,}[│| ]*$")
"""Lines of a frame; where the terminal does not speak UTF-8, a frame is a title, dashes and an indentation of two."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m|\[/?bold\]")
_HELP = ("-h", "--help")


def parse_verb(verb: type[T], arguments: list[str], *, prog: str) -> T:
    """Return the verb's options; unknown ones go to its field `overrides` if it has one, else they are an error.

    `--help` after a positional argument shows the verb's options, and then asks `overrides` for those of the argument.
    """
    if "overrides" not in {f.name for f in fields(verb)}:  # type: ignore[arg-type]
        return parse(verb, arguments, prog=prog)
    if arguments and not arguments[0].startswith("-") and any(word in _HELP for word in arguments):
        arguments = [word for word in arguments if word not in _HELP]
        return _help_both(verb, arguments, prog)
    _refuse_repeats(arguments)
    value, rest = _tyro(verb, arguments, prog)
    return cast(T, replace(cast(Any, value), overrides=tuple(rest)))


def _help_both(verb: type[T], arguments: list[str], prog: str) -> T:
    with contextlib.suppress(SystemExit):
        _tyro(verb, ["--help"], prog)
    try:
        value, _ = _tyro(verb, arguments, prog)
    except KinemaError:
        # What the verb requires is not given yet, so there is nothing further to show the options of.
        raise SystemExit(0) from None
    return cast(T, replace(cast(Any, value), overrides=("--help",)))


def parse(kind: type[T], arguments: Sequence[str], *, prog: str, default: T | None = None) -> T:
    """Return a `kind` with the typed values of `arguments`; everything else is from `default` or the field's default.

    Raises KinemaError for an option that is unknown, repeated, incomplete or of the wrong type; `--help` prints and
    exits.
    """
    _refuse_repeats(arguments)
    value, rest = _tyro(kind, arguments, prog, default)
    if rest:
        raise _unknown(rest, options(kind, default), prog)
    return value


def options(kind: type, default: Any = None, prefix: str = "--") -> Iterator[str]:
    """Yield the option of every leaf below `kind`, as it is typed: `--policy.encoders.camera.width`."""
    for f in fields(kind):
        name = prefix + f.name.replace("_", "-")
        value = getattr(default, f.name, None)
        nested = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, tuple) else {}
        parts = {f"{name}.{str(key).replace('_', '-')}": part for key, part in nested.items()}
        parts = {key: part for key, part in parts.items() if is_dataclass(part)} or {name: value}
        for key, part in parts.items():
            if is_dataclass(part) and not isinstance(part, type):
                yield from options(type(part), part, f"{key}.")
            else:
                yield key


def _last(option: str) -> str:
    return option.lstrip("-").rsplit(".", 1)[-1]


def _tyro(kind: type[T], arguments: Sequence[str], prog: str, default: T | None = None) -> tuple[T, list[str]]:
    said = io.StringIO()
    given = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                prog=prog,
                args=list(arguments),
                return_unknown_args=True,
                config=(tyro.conf.AvoidSubcommands, tyro.conf.PositionalMetavarFromFieldName),
                **given,  # type: ignore[call-overload]
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise KinemaError(f"{_plain(said.getvalue())}\n`{prog} --help` shows the options") from None


def _plain(framed: str) -> str:
    """Return the sentence inside tyro's framed message, up to its second rule; indented lines stay lines."""
    lines = _COLOUR.sub("", framed).splitlines()
    rules = [number for number, line in enumerate(lines) if _RULE.match(line)]
    if rules:
        lines = lines[rules[0] + 1 : (*rules, len(lines))[1]]
    kept = ""
    for line in lines:
        text = _FRAME.sub("", line)
        kept += f"\n{text}" if text.startswith(" ") else f" {text}"
    return kept.strip() or "the arguments could not be understood"


def _unknown(rest: Sequence[str], known: Iterator[str], prog: str) -> KinemaError:
    strange = [word.split("=")[0] for word in rest if word.startswith("-")]
    if not strange:
        return KinemaError(f"unexpected argument {rest[0]!r}\n`{prog} --help` shows the options")
    return UnknownOption(strange[0], ["--help", *known], prog)


def _refuse_repeats(arguments: Sequence[str]) -> None:
    seen = set()
    for word in arguments:
        name = word.split("=")[0].replace("_", "-")
        if name.startswith("--") and len(name) > 2 and name in seen:
            raise KinemaError(f"option {name!r} is given twice")
        seen.add(name)
