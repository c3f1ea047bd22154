"""`kinema` as a terminal starts it, with the toy suite and recipe beside this file within reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kinema.cli.main import main

COMMAND = [sys.executable, "-c", "import sys; from kinema.cli.main import main; sys.exit(main())"]
Started = Callable[..., "subprocess.Popen[str]"]
Ran = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def start() -> Started:
    """Start `kinema ARGUMENTS` as the head of its own process group; `before` runs in it first, `code` instead."""

    def start(
        *arguments: object, before: Callable[[], None] | None = None, code: str | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        # The toy suite draws without OpenGL, so nothing needs to look for a backend.
        given = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "KINEMA_GL_CHECKED": "egl"}
        return subprocess.Popen(
            [*(COMMAND if code is None else [sys.executable, "-c", code]), *map(str, arguments)],
            env={**os.environ, **given, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=before,
        )

    return start


@pytest.fixture(scope="session")
def run(start: Started) -> Ran:
    """Run `kinema ARGUMENTS` to its end."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def toy_data(run: Ran, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the toy suite: two tasks, two episodes each. Not to be changed."""
    data = tmp_path_factory.mktemp("toy") / "data"
    ended = run("record", "toy:Toy", "--tasks", "both", "--episodes", 2, "--out", data, "--workers", 1)
    assert ended.returncode == 0, ended.stderr
    return data


@pytest.fixture(scope="session")
def toy_run(run: Ran, toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the toy recipe. Not to be changed."""
    out = tmp_path_factory.mktemp("toy") / "run"
    ended = run("train", "toy:tiny", "--data", toy_data, "--out", out)
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.fixture(scope="session")
def short() -> Callable[[str], str]:
    """Return what was said, found to be short and without a trace of the program's inside."""

    def short(error: str) -> str:
        assert len(error.splitlines()) <= 10, error
        assert "Traceback" not in error and "error: unexpected" not in error, error
        return error

    return short


@pytest.fixture
def refused(
    short: Callable[[str], str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run `kinema ARGUMENTS` here, which must be refused as wrong input; returns what it said."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def refused(*arguments: object) -> str:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert code == 2, error
        assert "error: " in error
        return short(error)

    return refused
