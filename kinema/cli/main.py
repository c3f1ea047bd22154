"""The command `kinema`: finds the verb, runs it, and turns errors into a few lines and an exit code.

Exit codes: 0 done, 1 an unexpected failure, 2 an error that the user can act on, 130 interrupted.

A verb is one module of this package that holds one frozen dataclass named like the module, with a method
`run() -> int`. Its fields are the options. If it has a field `overrides`, options that it does not know itself arrive
there unparsed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import kinema
from kinema.cli.summary import summary
from kinema.core.errors import KinemaError, unknown

VERBS = {
    "demo": "demo",
    "record": "record",
    "train": "train",
    "eval": "evaluate",
    "compare": "compare",
    "report": "report",
    "list": "listing",
    "info": "info",
    "import": "importing",
    "export": "exporting",
    "data doctor": "data.doctor",
    "data info": "info",
    "data stats": "data.stats",
    "data score": "data.score",
    "data view": "data.view",
    "data edit": "data.edit",
    "data compact": "data.compact",
    "data import": "data.importing",
    "data mix": "data.mix",
    "data hub": "data.hub",
    "data generate": "data.generate",
    "data umi": "data.umi",
}
"""What is typed -> the module that does it; a verb of two words belongs to a group."""

_EXTRAS = {
    **dict.fromkeys(("torch", "safetensors", "tokenizers"), "train"),
    **dict.fromkeys(("mujoco", "gymnasium", "metaworld"), "sim"),
    **dict.fromkeys(("mink", "qpsolvers", "daqp"), "arm"),
    **dict.fromkeys(("pyarrow", "av", "PIL"), "data"),
    **dict.fromkeys(("h5py", "numcodecs", "imagecodecs", "google_crc32c", "google", "mcap", "mcap_ros2"), "import"),
    "transformers": "vlm",
    "peft": "lora",
    "cv2": "umi",
    "rerun": "view",
    "huggingface_hub": "hub",
}
"""Package -> the extra that brings it."""
_MOST_LINES = 10
_HELP = ("-h", "--help", "help")


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code of `kinema ARGV...`; errors are printed to stderr, never raised."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        _complain(f"interrupted; the same command goes on from here: kinema {shlex.join(arguments)}")
        return 130
    except BrokenPipeError:
        # The reader of a pipe left (`kinema list | head`): nothing is wrong, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KinemaError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and _package(error) not in _EXTRAS:
            return _unexpected(error)
        _complain(f"error: {_describe(error)}")
        return 2
    except Exception as error:  # noqa: BLE001 - the one place that must turn anything into a short message
        return _unexpected(error)


def available() -> dict[str, Path]:
    """Return every verb of this version and the file that holds it, in the order in which they are shown."""
    folder = Path(__file__).parent
    files = {verb: folder / f"{module.replace('.', '/')}.py" for verb, module in VERBS.items()}
    return {verb: path for verb, path in files.items() if path.is_file()}


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in _HELP:
        sys.stdout.write(_help())
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"kinema {kinema.__version__}\n")
        return 0
    name, *rest = arguments
    verbs = available()
    group = {verb for verb in verbs if verb.split()[0] == name != verb}
    if group and (not rest or rest[0] in _HELP):
        sys.stdout.write(_help(f"{name} "))
        return 0
    if group:
        name, *rest = f"{name} {rest[0]}", *rest[1:]
    if name not in verbs:
        raise unknown("option" if name.startswith("-") else "command", name, group or verbs)
    module = importlib.import_module(f"kinema.cli.{VERBS[name]}")
    verb = vars(module)[VERBS[name].rpartition(".")[2].capitalize()]
    from kinema.cli.parsing import UnknownOption, options, parse_verb

    try:
        return parse_verb(verb, rest, prog=f"kinema {name}").run()
    except UnknownOption as error:
        raise error.among(options(verb)) from None


def _help(group: str = "") -> str:
    """Return the help: of all commands of one word and the groups, or of the commands of one group."""
    shown = {verb: summary(path) for verb, path in available().items() if verb.startswith(group)}
    if not group:
        groups = {verb.split()[0]: "" for verb in shown if " " in verb}
        members = {name: [verb.split()[1] for verb in shown if verb.startswith(f"{name} ")] for name in groups}
        shown = {verb: text for verb, text in shown.items() if " " not in verb}
        shown |= {name: f"Datasets: {', '.join(verbs)}." for name, verbs in members.items()}
    width = max(8, *(len(verb) for verb in shown))
    verbs = "".join(f"  {verb:<{width}} {text}\n" for verb, text in shown.items())
    return (
        f"usage: kinema {group}COMMAND ...\n\n{kinema.__doc__}\n\ncommands:\n{verbs}\n"
        "`kinema COMMAND --help` shows the options of one command, `kinema --version` the version.\n"
    )


def _describe(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        package = _package(error)
        return f"this needs the package {package!r}\nfix: pip install 'kinema[{_EXTRAS[package]}]'"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _package(error: ModuleNotFoundError) -> str:
    return (error.name or "").split(".")[0]


def _unexpected(error: Exception) -> int:
    try:
        number, path = tempfile.mkstemp(prefix="kinema-", suffix=".txt")
        with open(number, "w", encoding="utf-8") as file:
            file.writelines(traceback.format_exception(type(error), error, error.__traceback__))
        where = f"the full traceback is in {path}; this is a bug of kinema or of what was plugged in"
    except OSError as reason:
        where = f"the traceback could not be saved: {reason.strerror}"
    lines = str(error).splitlines()[: _MOST_LINES - 3]
    _complain("\n".join([f"error: unexpected {type(error).__name__}: {lines[0] if lines else ''}", *lines[1:], where]))
    return 1


def _complain(text: str) -> None:
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], f"... and {len(lines) - _MOST_LINES + 1} more lines"]
    sys.stderr.write("\n".join(lines) + "\n")
