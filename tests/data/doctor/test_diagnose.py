"""The doctor survives anything, says what it skipped, and repairs only what is certain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import corruptions_rows as data_rows
import corruptions_structure as structure
import numpy as np
import pyarrow.parquet as pq
import pytest
from clean_datasets import edit_json
from corruption_tools import edit_data, edit_row, episode_rows

from kinema.cli.main import main
from kinema.core.errors import DataError
from kinema.data.doctor.check_lag import best_shift, shift_scores
from kinema.data.doctor.check_stats import wrong
from kinema.data.doctor.diagnose import diagnose
from kinema.data.doctor.films import scan
from kinema.data.doctor.fixes import fix
from kinema.data.doctor.read import survey
from kinema.data.lerobot.episode_stats import of_rows, to_nested
from kinema.data.lerobot.reader import open_dataset


@pytest.fixture(params=[0, 1], ids=["a file an episode", "shared files"])
def copy(request: pytest.FixtureRequest, clean: dict[int, Path], tmp_path: Path) -> Path:
    shutil.copytree(clean[request.param], tmp_path / "copy")
    return tmp_path / "copy"


def repair(root: Path) -> list[str]:
    return fix(survey(root, deep=False), diagnose(root, deep=False))


def test_what_is_no_dataset_is_an_error(tmp_path: Path, clean: dict[int, Path]) -> None:
    with pytest.raises(DataError, match="no such directory"):
        diagnose(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"neither meta/info\.json nor data/"):
        diagnose(tmp_path)
    shutil.copytree(clean[0], tmp_path / "old")
    edit_json(tmp_path / "old/meta/info.json", lambda info: info.update(codebase_version="v2.1"))
    with pytest.raises(DataError, match="kinema data import lerobot"):
        diagnose(tmp_path / "old")


def test_without_kinema_json_the_checks_that_need_it_are_skipped(copy: Path) -> None:
    (copy / "meta/kinema.json").unlink()
    for path, _, rows in episode_rows(copy):
        table = pq.read_table(path)
        assert rows
        pq.write_table(table.drop_columns(["kinema/origin", "kinema/success"]), path)
    report = diagnose(copy)
    assert report.healthy, report.findings
    assert dict(report.skipped)["action-bounds"] == "meta/kinema.json is missing or cannot be read"
    assert "state-jump" in report.checked and "image-frozen" in report.checked


def test_quick_decodes_no_video(copy: Path) -> None:
    report = diagnose(copy, deep=False)
    assert report.healthy and not report.deep and report.megabytes > 0.01
    assert dict(report.skipped)["image-black"] == "no video is decoded with --quick"
    assert "video-frames" in report.checked


def test_any_bytes_in_any_file_are_findings_never_exceptions(copy: Path) -> None:
    rng = np.random.default_rng(0)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and "cache" not in str(path))
    for path in rng.permutation(np.array(files, object))[:10]:
        whole = path.read_bytes()
        for junk in (b"", rng.bytes(300), whole[: len(whole) // 2], bytes(b ^ (rng.random() < 0.02) for b in whole)):
            path.write_bytes(junk)
            report = diagnose(copy, deep=False)
            if junk == b"" and path.suffix != "" and path.name != ".lock":
                assert not report.healthy, path
        path.write_bytes(whole)
    assert diagnose(copy, deep=False).healthy


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("data_path", "{video_key}/abs/other.parquet"),
        ("data_path", ".{video_key}./x.parquet"),
        ("video_path", "/{video_key}.mp4"),
        ("video_path", "{video_key:03d}.mp4"),
    ],
)
def test_no_template_leads_out_of_the_directory(copy: Path, name: str, template: str) -> None:
    edit_json(copy / "meta/info.json", lambda info: info.update({name: template}))
    before = sorted(copy.rglob("*.*"))
    assert "path-template" in {finding.check for finding in diagnose(copy, deep=False).findings}
    read = survey(copy, deep=False)
    files = {*read.tables, *read.films}
    assert files and all((copy / file).resolve().is_relative_to(copy) and file[0] != "/" for file in files)
    assert repair(copy) == ["nothing else was repaired, because of path-template"]
    assert sorted(path for path in copy.rglob("*.*") if path.name != ".lock") == [
        p for p in before if p.name != ".lock"
    ]


def test_two_columns_of_one_name_are_a_finding(copy: Path) -> None:
    path = next(copy.glob("data/chunk-*/file-*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.append_column("action", table["action"]), path)
    found = {finding.check: finding.detail for finding in diagnose(copy, deep=False).findings}
    assert found["data-unreadable"] == "the column 'action' is there 2 times"


@pytest.mark.parametrize("fps", ["1" + "0" * 400, "0", "NaN", "1e999", "true", '"30"'])
def test_rates_that_are_none_are_findings(copy: Path, fps: str) -> None:
    path = copy / "meta/info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"fps": "FPS"}).replace('"FPS"', fps))
    details = [finding.detail for finding in diagnose(copy, deep=False).findings if finding.check == "info-fields"]
    assert len(details) == 1 and details[0].startswith("fps is "), details


def test_a_directory_where_a_file_should_be(copy: Path) -> None:
    for name in ("meta/tasks.parquet", "meta/stats.json"):
        (copy / name).unlink()
        (copy / name).mkdir()
    checks = {finding.check for finding in diagnose(copy, deep=False).findings}
    assert {"tasks-unreadable", "stats-unreadable"} <= checks


def test_wrong_numbering_counts_and_statistics_are_repaired(copy: Path) -> None:
    rng = np.random.default_rng(1)
    before = {path: pq.read_table(path) for path in copy.glob("data/*/*.parquet")}
    stats = json.loads((copy / "meta/stats.json").read_text())
    for corruption in (
        data_rows.timestamps_of_a_clock,
        data_rows.frame_index_with_a_gap,
        data_rows.index_with_a_gap,
        structure.total_frames_off,
        structure.info_counts_episodes_that_are_lost,
        structure.stats_of_other_data,
        structure.episode_stats_of_other_data,
        structure.episode_range_shifted,
        structure.orphan_left,
        structure.staging_left,
    ):
        corruption(copy, rng)
    assert len({finding.check for finding in diagnose(copy, deep=False).findings}) >= 9
    said = repair(copy)
    assert len(said) == 5 and "2 files that no episode owns" in said[0]
    assert diagnose(copy).findings == ()
    assert all(pq.read_table(path).equals(table) for path, table in before.items())
    again = json.loads((copy / "meta/stats.json").read_text())
    for name in ("mean", "std", "min", "max", "count"):
        assert np.allclose(again["action"][name], stats["action"][name], rtol=1e-9), name
    assert len([path for path in (copy / ".quarantine").rglob("*") if path.suffix in (".parquet", ".mp4")]) == 2
    assert len(open_dataset(copy)) == sum(row["length"] for _, _, rows in episode_rows(copy) for row in rows)


def test_what_is_in_doubt_is_not_touched(copy: Path) -> None:
    rng = np.random.default_rng(2)
    structure.total_frames_off(copy, rng)
    data_rows.data_truncated(copy, rng)
    files = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert repair(copy) == ["nothing else was repaired, because of data-unreadable"]
    assert all(path.read_bytes() == content for path, content in files.items() if path.name != ".lock")


def test_statistics_are_not_made_of_nan(copy: Path) -> None:
    edit_data(copy, 2, lambda columns: columns["action"].__setitem__((3, 0), np.nan))
    (copy / "meta/stats.json").unlink()
    assert repair(copy) == ["the statistics stay as they are: there is NaN or infinity in the data"]
    found = [finding for finding in diagnose(copy, deep=False).findings if finding.check == "not-finite"]
    assert found[0].episode == 2 and "first row 3" in found[0].detail


def test_statistics_within_rounding_are_accepted() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2))
    true = of_rows(rows)
    stored = to_nested({"x": true})["x"]
    assert wrong(stored, true) == ""
    assert wrong({**stored, "mean": [float(v) + 1e-4 for v in stored["mean"]]}, true) == ""
    assert "std[0]" in wrong({**stored, "std": [float(stored["std"][0]) * 1.1, stored["std"][1]]}, true)
    assert wrong({**stored, "count": [49]}, true) == "count is [49], recomputed 50"
    assert wrong({**stored, "max": "many"}, true) == "max is missing or not 2 numbers"


@pytest.mark.parametrize("shift", [-3, 0, 1, 4])
def test_the_shift_between_action_and_state_is_recovered(shift: int) -> None:
    time = np.arange(80)
    action = np.stack([np.sin(time / 3) + 0.4 * np.sin(time / 1.7), np.cos(time / 4)], axis=1)
    state = action[np.clip(time - shift, 0, 79)]
    scores = shift_scores(action, state, 8)
    assert scores.shape == (17,) and best_shift(scores) == shift and scores.max() == pytest.approx(1)
    assert shift_scores(action, np.random.default_rng(0).normal(size=(80, 2)), 8).max() < 0.5


def test_a_film_says_why_it_cannot_be_read(tmp_path: Path) -> None:
    assert scan(tmp_path / "no.mp4", deep=True).error == "does not exist"
    (tmp_path / "no.mp4").write_bytes(b"ftyp" * 100)
    assert scan(tmp_path / "no.mp4", deep=True).error.startswith("is not a complete video")


def test_the_command(copy: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["data", "doctor", str(copy), "--quick"]) == 0
    assert "No problem found" in capsys.readouterr().out
    edit_row(copy, 3, **{"kinema/success": False})
    (copy / "meta/stats.json").unlink()
    page, excluded = tmp_path / "page.html", tmp_path / "exclude.json"
    options = ["--quick", "--html", str(page), "--exclude", str(excluded)]
    assert main(["data", "doctor", str(copy), *options]) == 1
    said = capsys.readouterr().out
    assert "error stats-unreadable" in said and "episode 3: success is false" in said
    assert f"kinema data edit delete {copy} --episodes 3" in said and "MB/s" in said
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 6 * 2 * 4 and "<script" not in text and "http" not in text
    assert "1 error and 1 warning, in 1 of 6 episodes." in text
    assert json.loads(excluded.read_text())["reasons"] == {"3": ["episode-failed: success is false"]}
    assert main(["data", "doctor", str(copy), "--quick", "--fix", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in report["findings"]] == ["episode-failed"] and len(report["fixed"]) == 1
    assert main(["data", "doctor", str(tmp_path / "none")]) == 2
