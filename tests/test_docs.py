"""README and docs tell the truth: paths exist, commands parse, the reading path is there."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from kinema.cli.main import VERBS, main
from kinema.cli.overrides import override
from kinema.cli.parsing import parse_verb
from kinema.core.names import find

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PATH = re.compile(r"(?:kinema|docs|tests|tools|benchmarks|\.ci)/[\w./-]*\w/?|[\w.-]+\.(?:toml|md|txt|yaml)")
FOUND_BY = {
    "train": ("recipe", "recipe"),
    "record": ("suite", "suite"),
    "eval": ("suite", "suite"),
    "compare": ("suite", "suite"),
}
"""Verb -> the kind whose options are the verb's overrides, and the field that names its member."""


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def mentioned(page: Path) -> set[Path]:
    """Return every path of this project that a page links to or writes in backticks."""
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    found = {(page.parent / link).resolve() for link in links if "://" not in link}
    for code in re.findall(r"`([^`\n]+)`", text):
        if PATH.fullmatch(code) and "<" not in code:
            found.add(ROOT / code)
    return found


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def words_of(command: str) -> list[str]:
    """Return the words of a command; of one that `torchrun` starts, those of the command that it starts."""
    words = shlex.split(command)
    if words[0] == "torchrun":
        assert words[1] == "--nproc-per-node" and words[2].isdigit() and words[3:5] == ["-m", "kinema"]
        return words[4:]
    return words


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_path_exists(page: Path) -> None:
    assert not sorted(str(path) for path in mentioned(page) if not path.exists())


def test_pages_mention_paths_and_commands() -> None:
    assert len(mentioned(ROOT / "README.md")) > 8
    assert sum(len(commands(page)) for page in PAGES) > 12


@pytest.mark.parametrize("command", sorted({c for page in PAGES for c in commands(page)}))
def test_every_command_is_understood(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = words_of(command)
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
        assert set(arguments) <= set(targets)
        return
    assert program == "kinema", "a console block holds kinema, torchrun and make commands only"
    if "--help" in arguments or arguments[0] == "list":
        assert main(arguments) == 0
        assert capsys.readouterr().out
        return
    parsed(arguments)


def parsed(arguments: list[str]) -> None:
    """Parse `kinema ARGUMENTS` as the command line does, with the options of recipe or suite."""
    verb = parse_verb_of(arguments)
    if arguments[0] in FOUND_BY:
        member = options_of(arguments, verb)
        if FOUND_BY[arguments[0]][0] == "suite":
            assert not verb.tasks or member.select(verb.tasks.split(","))


def parse_verb_of(arguments: list[str]) -> Any:
    words = 1 if arguments[0] in VERBS else 2
    name, rest = " ".join(arguments[:words]), arguments[words:]
    module = importlib.import_module(f"kinema.cli.{VERBS[name]}")
    return parse_verb(vars(module)[VERBS[name].rpartition(".")[2].capitalize()], rest, prog=f"kinema {name}")


def options_of(arguments: list[str], verb: Any) -> Any:
    """Return the recipe or suite of `verb` with the overrides of the command line."""
    kind, field = FOUND_BY[arguments[0]]
    return override(find(kind, getattr(verb, field))(), list(verb.overrides), f"kinema {shlex.join(arguments)}")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_documented_trainings_find_the_cameras_of_the_documented_recordings(page: Path) -> None:
    recorded: dict[str, Any] = {}
    for command in commands(page):
        program, *arguments = words_of(command)
        if program != "kinema" or "--help" in arguments:
            continue
        verb = parse_verb_of(arguments)
        if arguments[0] == "record":
            recorded[str(verb.out)] = options_of(arguments, verb).spec
        elif arguments[0] == "train" and verb.data is not None:
            for data in str(verb.data).split(","):
                assert data in recorded, f"{command}: nothing above it records {data}"
                find("recipe", verb.recipe)().policy.needs(recorded[data])


def test_a_wrong_command_would_be_noticed() -> None:
    with pytest.raises(ValueError, match=r"did you mean '--train\.steps'"):
        parsed(["train", "metaworld-mt10", "--train.stps", "5"])


def reading_paths() -> list[list[str]]:
    text = (ROOT / "README.md").read_text("utf-8").split("## Read it")[1].split("## ")[0]
    return [re.findall(r"\]\((kinema/[^)]+)\)", part) for part in text.split("\n\n") if "four files" in part]


def test_the_reading_path_is_four_files_each_that_know_the_next() -> None:
    acting, learning = reading_paths()
    assert [Path(p).parts[1] for p in acting] == ["cli", "deploy", "policies", "heads"]
    assert [Path(p).parts[1] for p in learning] == ["cli", "recipes", "train", "policies"]
    text = {p: (ROOT / p).read_text("utf-8") for p in acting + learning}
    for here, there in [("cli/evaluate", "deploy.load"), ("deploy/load", "policies.base")]:
        assert f"from kinema.{there} import" in text[f"kinema/{here}.py"]
    assert "def act(" in text["kinema/policies/base.py"]
    assert "head.sample(" in text["kinema/policies/base.py"]
    assert "def sample(" in text["kinema/heads/flow.py"]
    assert "kinema.train.loop" in text["kinema/cli/train.py"]
    assert "def loss(" in text["kinema/policies/network.py"]
    assert ".loss(" in "".join(
        (ROOT / "kinema" / "train").joinpath(f).read_text("utf-8") for f in ("loop.py", "step.py")
    )


def test_the_readme_fits_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 80


def test_every_verb_and_page_is_reachable_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    pages = readme + "".join(page.read_text("utf-8") for page in PAGES if page.parent.name == "docs")
    assert all(f"kinema {verb.split()[0]}" in readme for verb in VERBS)
    assert [verb for verb in VERBS if f"kinema {verb} " not in pages and f"kinema {verb}`" not in pages] == []
    assert all(f"docs/{page.name}" in readme for page in PAGES if page.parent.name == "docs")
    assert all(path in readme for path in ("CONTRIBUTING.md", "docs/architecture.md", "docs/guide.md", "CHANGELOG.md"))
