"""The directory is the registry: the only place where a name becomes an object.

A member of a kind is one file in that kind's package. The file `x_y.py` holds the object `XY` or `x_y`. Out of tree,
`my_package.module:thing` names the object itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import Any

from kinema.core.errors import KinemaError, unknown

PACKAGES = {
    "suite": "kinema.sim.suites",
    "recipe": "kinema.recipes",
    "policy": "kinema.policies",
    "head": "kinema.heads",
    "encoder": "kinema.nets.encoders",
    "trunk": "kinema.nets.trunks",
    "denoiser": "kinema.nets.denoisers",
    "transform": "kinema.transforms",
    "importer": "kinema.data.importers",
    "checkpoint": "kinema.checkpoints.formats",
    "chunking": "kinema.deploy.chunking",
}
_SHARED = {"base", "network"}


def members(kind: str) -> tuple[str, ...]:
    """Return the names of all members of `kind`, spelt with dashes, without importing any of them."""
    package = PACKAGES.get(kind)
    if package is None:
        raise unknown("kind", kind, PACKAGES)
    spec = importlib.util.find_spec(package)
    paths = spec.submodule_search_locations if spec else None
    found = pkgutil.iter_modules(paths or [])
    return tuple(
        sorted(m.name.replace("_", "-") for m in found if not m.name.startswith("_") and m.name not in _SHARED)
    )


def find(kind: str, name: str) -> Any:
    """Return the object of `kind` called `name`, or `package.module:thing` from outside; unknown names are errors."""
    if ":" in name:
        return locate(name)
    known = members(kind)
    if name.replace("_", "-") not in known:
        raise unknown(kind, name, known)
    module = importlib.import_module(f"{PACKAGES[kind]}.{name.replace('-', '_')}")
    wanted = name.replace("-", "").replace("_", "").lower()
    for attribute, value in vars(module).items():
        if attribute.replace("_", "").lower() == wanted and getattr(value, "__module__", None) == module.__name__:
            return value
    raise KinemaError(f"{module.__file__} must define the {kind} {name!r}: an object with the file's name")


def locate(path: str) -> Any:
    """Return the object at `package.module:thing`."""
    module_name, _, attribute = path.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:  # the latter two: an empty or relative name
        raise KinemaError(f"cannot import {module_name!r} for {path!r}: {error}") from error
    for part in attribute.split("."):
        if not part.isidentifier() or part.startswith("_") or part not in vars(value):
            raise unknown(f"object in {module_name}", attribute, [n for n in vars(value) if not n.startswith("_")])
        value = vars(value)[part]
    return value
