"""Rules for executing chunks, as `--chunking` names them: "ensemble", "receding-horizon --exec-horizon 4"."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from kinema.cli.overrides import override
from kinema.core.errors import KinemaError
from kinema.core.names import find
from kinema.deploy.chunking.base import Chunking


def rule_of(text: str) -> Any:
    """Return the rule that `text` names, with its own options; "ensemble --help" shows those of `ensemble`."""
    try:
        name, *options = shlex.split(text)
    except ValueError as error:
        raise KinemaError(
            f"--chunking {text!r}: expected a rule of `kinema list chunking` and its options, "
            'such as "receding-horizon --exec-horizon 4"'
        ) from error
    kind = find("chunking", name)
    if not (isinstance(kind, type) and issubclass(kind, Chunking) and is_dataclass(kind)):
        raise KinemaError(f"--chunking {name}: expected a frozen dataclass derived from Chunking, not {kind!r:.80}")
    try:
        default = kind()
    except TypeError as error:
        raise KinemaError(f"--chunking {name}: {error}\nfix: give every option of the rule a default") from error
    return override(default, options, f"kinema eval ... --chunking {name}")


def arms(texts: Sequence[str], main: Any) -> list[Any]:
    """Return for each rule an arm that repeats `main` with its policy executed by that rule."""
    made = []
    for text in texts:
        rule = rule_of(text)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
        made.append(replace(main, name=name, description=f"chunks executed by {rule}", policy=rule.wrap(main.policy)))
    return made
