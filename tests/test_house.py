"""The house's rules that a linter does not know: sizes, quiet packages, forbidden calls, arrows, light imports."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kinema"
RATCHET = Path(__file__).with_name("house_exceptions.json")
"""What is longer than aimed at, with its length. It may only shrink: shorten the code, then `make ratchet`."""

FILE_AIM, FILE_LIMIT = 200, 350
FUNCTION_AIM, FUNCTION_LIMIT = 30, 60
FORBIDDEN_CALLS = {"eval", "exec", "hasattr", "breakpoint", "compile"}
FORBIDDEN_PATHS = {"torch.load", "torch.save", "yaml.load", "pickle.load", "pickle.loads", "pickle.dump", "os.system"}
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "yaml", "marshal", "shelve"}
HEAVY = ("torch", "mujoco", "gymnasium", "metaworld", "transformers", "pyarrow", "av", "scipy")
SLACK = 3.0
"""Start-up times are promised for an idle machine; a loaded one may take this much longer."""

SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (qualified name, lines) of every function, decorators and docstring not counted."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{prefix}{child.name}", (child.end_lineno or 0) - child.lineno + 1 - docstring_lines(child)
                yield from visit(child, f"{prefix}{child.name}.")

    yield from visit(tree_of(path), f"{name_of(path)}::")


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return (node.body[0].end_lineno or 0) - node.body[0].lineno + 1


def lengths() -> dict[str, tuple[int, int, int]]:
    """Return what is measured -> (lines, aim, limit)."""
    found = {name_of(p): (len(p.read_text("utf-8").splitlines()), FILE_AIM, FILE_LIMIT) for p in SOURCES}
    for path in SOURCES:
        found |= {name: (lines, FUNCTION_AIM, FUNCTION_LIMIT) for name, lines in functions(path)}
    return found


def test_nothing_is_longer_than_the_hard_limit() -> None:
    over = {name: lines for name, (lines, _, limit) in lengths().items() if lines > limit}
    assert not over, f"split these: {over}"
    tests = {name_of(p): len(p.read_text("utf-8").splitlines()) for p in TESTS}
    assert not {name: lines for name, lines in tests.items() if lines > FILE_LIMIT}


def test_what_is_longer_than_aimed_at_is_listed_and_only_shrinks() -> None:
    listed = json.loads(RATCHET.read_text("utf-8"))
    over = {name: lines for name, (lines, aim, _) in lengths().items() if lines > aim}
    grown = {name: lines for name, lines in over.items() if lines > listed.get(name, 0)}
    assert not grown, f"shorten these (or, for new code that reads best whole, list them in {RATCHET.name}): {grown}"
    stale = {name: over.get(name, "within its aim or gone") for name in listed if over.get(name) != listed[name]}
    assert not stale, f"these became shorter, so lower their entries with `make ratchet`: {stale}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=name_of)
def test_a_package_file_is_one_docstring(path: Path) -> None:
    body = tree_of(path).body
    allowed = 2 if path.parent == PACKAGE else 1  # the top one holds the version as well
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} must say in one line what the package holds"
    assert len(body) == allowed, f"{name_of(path)} must hold nothing but its docstring"


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def offences(path: Path) -> Iterator[str]:
    """Yield the forbidden constructs of one file, with their lines."""
    may_print = path.is_relative_to(PACKAGE / "cli")
    for node in ast.walk(tree_of(path)):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in FORBIDDEN_CALLS | FORBIDDEN_PATHS or (called == "print" and not may_print):
                yield f"{where} calls {called}"
            for word in node.keywords:
                if word.arg in ("allow_pickle", "shell") and not is_false(word.value):
                    yield f"{where} passes {word.arg}"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{where} is a bare except"
        elif isinstance(node, ast.Global):
            yield f"{where} writes global state"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if name.split(".")[0] in FORBIDDEN_MODULES:
                    yield f"{where} imports {name}"
                if isinstance(node, ast.ImportFrom) and node.level:
                    yield f"{where} imports relatively"


def is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_forbidden_construct(path: Path) -> None:
    assert not list(offences(path))


def test_the_search_for_offences_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import pickle\nfrom . import x\neval('1')\ntorch.load(f)\nnp.load(f, allow_pickle=True)\n"
        "try:\n    hasattr(a, 'b')\nexcept:\n    print()\n",
        "utf-8",
    )
    assert len(list(offences(bad))) == 8


def test_the_arrows_hold() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, "run `lint-imports`"


def test_light_packages_import_without_heavy_ones() -> None:
    for package in ("core", "actions", "transforms", "evaluation"):
        modules = [name_of(p)[:-3].replace("/", ".") for p in sorted((PACKAGE / package).rglob("*.py"))]
        loaded = imported_by("\n".join(f"import {name.removesuffix('.__init__')}" for name in modules))
        assert not loaded & {"torch", "mujoco", "gymnasium", "metaworld", "transformers"}, package


def imported_by(code: str) -> set[str]:
    """Return which heavy packages a fresh interpreter holds after running `code`."""
    script = f"{code}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("code", "limit_s"),
    [
        ("import kinema", 0.2),
        ("import sys; sys.argv = ['kinema', '--help']\nfrom kinema.cli.main import main\nassert main() == 0", 0.5),
    ],
    ids=["import kinema", "kinema --help"],
)
def test_starting_is_quick_and_light(code: str, limit_s: float) -> None:
    output = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.splitlines()[-1] == "[]"
    idle, taken = best_of_three("pass"), best_of_three(code)
    assert taken < max(limit_s, idle * SLACK), f"{taken:.2f} s, of which an empty interpreter takes {idle:.2f} s"


def best_of_three(code: str) -> float:
    times = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.monotonic() - began)
    return min(times)


def test_the_version_is_stated_once() -> None:
    text = (PACKAGE / "__init__.py").read_text("utf-8")
    assert len(re.findall(r"\d+\.\d+\.\d+", text)) == 1
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text("utf-8")
