"""The command's manners: exit codes, short errors, help without heavy imports."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import kinema
from kinema.cli import main as module
from kinema.cli.main import available, main
from kinema.core.errors import KinemaError


def stand_in(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `kinema list` a verb that raises `error`."""
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Listing:
        """Fail."""

        def run(self) -> int:
            raise error

    fake = ModuleType("kinema.cli.listing")
    vars(fake)["Listing"] = Listing
    monkeypatch.setitem(sys.modules, "kinema.cli.listing", fake)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb.split()[0]} " in shown for verb in available())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kinema {kinema.__version__}\n"


@pytest.mark.parametrize("verb", available())
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: kinema {verb}" in capsys.readouterr().out


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lst"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'lst'; did you mean 'list'?\n")


def test_an_unknown_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--knd", "heads"]) == 2
    assert "unknown option '--knd'" in capsys.readouterr().err


def test_a_missing_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 2
    error = capsys.readouterr().err
    assert "DIRECTORY" in error
    assert "`kinema info --help`" in error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KinemaError("no camera 'wrist'"), "error: no camera 'wrist'\n"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), "error: No such file or directory: x.json\n"),
        (
            ModuleNotFoundError("No module", name="tokenizers"),
            "error: this needs the package 'tokenizers'\nfix: pip install 'kinema[train]'",
        ),
        (ModuleNotFoundError("No module", name="mujoco.x"), "error: this needs the package 'mujoco'\nfix: pip install"),
    ],
)
def test_errors_of_the_user_are_short(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, error)
    assert main(["list"]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_long_errors_are_cut_to_ten_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(monkeypatch, KinemaError("\n".join(f"line {i}" for i in range(30))))
    assert main(["list"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "... and 21 more lines"


def test_an_unexpected_error_leaves_a_traceback_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    stand_in(monkeypatch, ZeroDivisionError("division by zero"))
    assert main(["list"]) == 1
    error = capsys.readouterr().err
    (saved,) = tmp_path.iterdir()
    assert error.startswith("error: unexpected ZeroDivisionError: division by zero\n")
    assert str(saved) in error
    assert "Traceback (most recent call last)" in saved.read_text("utf-8")


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(monkeypatch, KeyboardInterrupt())
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from here: kinema list\n"


def test_train_suggests_its_own_options_and_those_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert main(["train", "metaworld-mt10", "--dvice", "cpu"]) == 2
    assert "did you mean '--device'?" in capsys.readouterr().err
    assert main(["train", "metaworld-mt10", "--train.step", "5"]) == 2
    assert "did you mean '--train.steps'?" in capsys.readouterr().err


def test_help_of_a_recipe_shows_the_verb_and_then_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert main(["train", "metaworld-mt10", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("--dry-run") < shown.index("--train.steps")


@pytest.mark.parametrize("arguments", [["data"], ["data", "--help"]])
def test_a_group_lists_its_verbs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: kinema data COMMAND") and "\n  data info " in shown and "\n  record " not in shown


def test_an_unknown_verb_of_a_group_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inof"]) == 2
    assert "unknown command 'data inof'; did you mean 'data info'?" in capsys.readouterr().err
