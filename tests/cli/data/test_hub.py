"""Push to a hub and pull from it: the same dataset comes back, or nothing that is not whole."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("huggingface_hub")
SOURCE = Path(__file__).parents[2] / "goldens" / "lerobot" / "v30_video"
COMMAND = [sys.executable, "-c", "import sys; from kinema.cli.main import main; sys.exit(main())", "data", "hub"]


def load_server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).parent / "hub_server.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_server"] = module
    spec.loader.exec_module(module)
    return module


def kinema(url: str, home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    given = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}
    given |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*", "no_proxy": "*"}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], env={**os.environ, **given}, capture_output=True, text=True, timeout=120
    )


def test_push_then_pull(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(SOURCE, root)
    for name in (".cache/x.u8", ".staging/ep-1/data.parquet", ".quarantine/0000/data.parquet", ".lock", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("not for others")
    expected = {p.relative_to(SOURCE).as_posix(): p.read_bytes() for p in SOURCE.rglob("*") if p.is_file()}
    with load_server().running() as hub:
        pushed = kinema(hub.url, tmp_path / "home", "push", root, "me/data")
        assert pushed.returncode == 0, pushed.stderr
        assert "pushed me/data: v3.0, 4 episodes, 18 frames" in pushed.stdout
        assert hub.files == expected and hub.tags == ["v3.0"]
        hub.files |= {
            "data/chunk-000/file-009.parquet": b"of an earlier push",
            ".gitattributes": b"x",
            "paper.pdf": b"x",
        }
        again = kinema(hub.url, tmp_path / "home", "push", root, "me/data")
        assert again.returncode == 0, again.stderr
        assert hub.files == expected | {".gitattributes": b"x", "paper.pdf": b"x"} and hub.tags == ["v3.0"]
        tagged = [asked for asked in hub.asked if "/tag/" in asked or "/commit/" in asked]
        tag, commit = "/api/datasets/me/data/tag", "POST /api/datasets/me/data/commit/main"
        assert tagged == [commit, f"DELETE {tag}/v3.0", f"POST {tag}/main"] * 2, "the tag moves to the new commit"
        pulled = kinema(hub.url, tmp_path / "home", "pull", "me/data", "--out", tmp_path / "pulled")
        assert pulled.returncode == 0, pulled.stderr
        for name, content in expected.items():
            assert (tmp_path / "pulled" / name).read_bytes() == content, name
        hub.files["data/chunk-000/file-000.parquet"] = expected["data/chunk-000/file-000.parquet"][:1000]
        hub.files["run_me.py"] = b"raise SystemExit('ran')"
        broken = kinema(hub.url, tmp_path / "home", "pull", "me/data", "--out", tmp_path / "broken")
        assert broken.returncode == 2 and "is truncated or not a parquet file" in broken.stderr, broken.stderr
        assert not (tmp_path / "broken" / "run_me.py").exists()
        unknown = kinema(hub.url, tmp_path / "home", "pull", "me/nothing", "--out", tmp_path / "none")
        assert unknown.returncode == 2 and "me/nothing" in unknown.stderr, unknown.stderr


def test_what_is_not_whole_is_not_pushed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(SOURCE, root)
    (root / "videos/observation.images.wrist/chunk-000/file-000.mp4").unlink()
    with load_server().running() as hub:
        refused = kinema(hub.url, tmp_path / "home", "push", root, "me/data")
        assert refused.returncode == 2 and "file-000.mp4 does not exist" in refused.stderr
        assert kinema(hub.url, tmp_path / "home", "push", SOURCE).returncode == 2
        assert not hub.asked, "nothing was asked of the hub"
