"""docs/benchmarks.md is what the generator makes of docs/results, and shows every part that was measured."""

from __future__ import annotations

import re
from pathlib import Path

import benchmarks_page
import page_parts
import results
import speed

from kinema.evaluation.intervals import Rate


def test_the_page_says_what_the_files_say() -> None:
    expected = benchmarks_page.page(results.read_all())
    assert benchmarks_page.PAGE.read_text("utf-8") == expected, "run `make benchmarks-page`"


def test_without_results_everything_is_not_measured_yet() -> None:
    text = benchmarks_page.page({})
    assert text.count("Everything in this section is not measured yet.") == 4
    assert "make bench-mt10" in text
    assert "|" not in text


def several(*values: float, unit: str = "frames/s") -> dict:
    return results.repeated(values, unit)


def made_up() -> dict:
    """Return the parts of a machine without OSMesa, on which one recipe was not measured."""
    peak = {"process": results.once(512.0, "MiB"), "largest child": results.once(90.5, "MiB")}
    two = several(10.0, 20.0)
    sizes = {"64": {"fast": several(900.0, 1000.0), "full": two, "ratio": several(45.0, 50.0)}, "memory": peak}
    return {
        "rendering/egl": {"backend": "egl", **sizes},
        "rendering/osmesa": results.unavailable("no library"),
        "recording": {"task": "t", "cameras": 3, "size": 96, "workers": 2, "steps": two, "frames": two, "memory": peak},
        "training/demo": {"recipe": "r", "batch_size": 64, "auto": "bf16", "fp32": two, "bf16": two, "ratio": two},
        "allocator/demo": {"recipe": "r", "kept": two, "returned": two, "ratio": two},
        "loading/demo": {"recipe": "r", "batch_size": 64, "batches": two},
        "inference/demo": {
            "recipe": "r",
            "exec_horizon": 8,
            "batch-1": results.repeated([4.0, 6.0], "ms", p50=5.0, p95=5.9, p99=5.98),
        },
        "start-up": {"import kinema": several(20.0, 22.0, 30.0, unit="ms"), "measured": "2030-01-01"},
    }


def test_every_measured_part_is_shown(tmp_path: Path) -> None:
    figures = speed.figures_of(made_up())
    path = results.write("speed", figures, command="c", seeds=[0], notes=["a note"], directory=tmp_path, missing=[])
    text = benchmarks_page.page({"speed": results.read(path)})
    assert "| egl | 64 px | 950 [900, 1000] (n = 2) | 15 [10, 20] (n = 2) | 47.5 [45, 50] (n = 2) |" in text
    assert "`osmesa` is not available on this machine: no library." in text
    assert "| t | 3 | 96 px | 2 | 15 [10, 20] (n = 2) | 15 [10, 20] (n = 2) |" in text
    assert "| `r` | 1 | 8 | 5 | 5.9 | 5.98 | 6 | 2 |" in text
    assert "| `import kinema` | 20 | 22 | 3 |" in text
    assert "| recording | 512 | 90.5 |" in text
    missing = "training/mt10, loading/mt10, inference/mt10, allocator/mt10"
    assert f"These parts are not measured yet: {missing}." in text
    assert "- a note" in text


def made_up_loader() -> dict:
    """Return the figures of the loader's benchmark on one dataset, with a backend that does not work."""
    measures = {"samples_per_s": "samples/s", "p50_ms": "ms", "p99_ms": "ms", "first_ms": "ms", "resident_mib": "MiB"}
    epoch = {name: several(10.0, 20.0, unit=unit) for name, unit in measures.items()}
    side = {"epoch 1": epoch, "epoch 2": epoch}
    settings = {"torchcodec, 2 workers": results.once(12.0, "samples/s"), "pyav, 2 workers": results.unavailable("no")}
    ratios = ("first epoch ratio", "cached epoch ratio", "streaming ratio")
    return {
        "96x96": {
            "frames": 1600,
            "batch_size": 32,
            "identical items": results.once(1000, "count", n=1000),
            "lerobot setting": "torchcodec, 2 workers",
            "lerobot settings": settings,
            **dict.fromkeys(("kinema", "kinema streaming", "lerobot"), side),
            **dict.fromkeys(ratios, several(2.0, 3.0, 4.0, unit="times as fast")),
        }
    }


def test_the_loader_is_shown_beside_lerobot(tmp_path: Path) -> None:
    versions = {"lerobot": "0.4.4", "torch": "2.13.0"}
    path = results.write(
        "loader", made_up_loader(), command="c", seeds=[0], directory=tmp_path, notes=["a note"], lerobot=versions
    )
    text = benchmarks_page.page({"loader": results.read(path)})
    ratio = "3 [2, 4] (n = 3)"
    assert f"| 96x96 | 1000/1000 | {ratio} | {ratio} | {ratio} |" in text
    assert "| lerobot | 2 | 15 [10, 20] (n = 2) | 15 | 15 | 1 | 15 | 15 |" in text
    assert "torchcodec, 2 workers: 12 samples/s; pyav, 2 workers: not available. Taken: torchcodec, 2 workers." in text
    assert "Measured against lerobot 0.4.4, torch 2.13.0." in text


def test_other_results_on_data_are_shown_figure_by_figure(tmp_path: Path) -> None:
    figures = {"kills": {"lost": results.once(0, "count", n=50), "codec": "a|b"}, "speed": several(1.0, 3.0, unit="s")}
    path = results.write("recorder_kill", figures, command="kill", seeds=[0], directory=tmp_path)
    text = benchmarks_page.page({"recorder_kill": results.read(path)})
    assert "## Recording that is killed" in text and "Large datasets" not in text
    assert "| kills, lost | 0 (n = 50) | count |" in text
    assert "| kills, codec | a/b |" in text
    assert "| speed | 2 [1, 3] (n = 2) | s |" in text


def test_scale_is_a_table_of_sizes(tmp_path: Path) -> None:
    figures = {"10 episodes": {"append": several(0.01, 0.03, unit="s")}, "10 episodes, compacted": {}}
    path = results.write("data_scale", figures, command="c", seeds=[], directory=tmp_path)
    text = benchmarks_page.page({"data_scale": results.read(path)})
    assert "| 10 episodes | 20 [10, 30] |" in text and "| 10 episodes, compacted |  |" in text


def test_what_the_doctor_missed_is_named(tmp_path: Path) -> None:
    def found(hits: int, n: int) -> dict:
        return results.rate(Rate(hits, n))

    figures = {
        "structural": {"all": found(20, 20), "corruptions": {"cut": found(20, 20)}},
        "content": {"all": found(19, 20), "corruptions": {"frozen": found(19, 20)}},
        "false_alarms": found(0, 400),
    }
    path = results.write("doctor_recall", figures, command="c", seeds=[0], directory=tmp_path)
    text = benchmarks_page.page({"doctor_recall": results.read(path)})
    assert "2 kinds of corruption, at least 20 datasets each." in text
    assert "Not always found: frozen 95 % [" in text
    assert "| clean datasets with a false alarm | 0 % [" in text


def test_generation_is_shown_seed_by_seed(tmp_path: Path) -> None:
    seed = {"few": results.rate(Rate(5, 50)), "many": results.rate(Rate(40, 50))}
    seed["p"] = results.once(1e-9, "p-value", n=50)
    figures = {"generation": results.rate(Rate(27, 30)), "gain": several(0.5, 0.7, unit="d"), "seeds": {"0": seed}}
    path = results.write("mimicgen", figures, command="c", seeds=[0], directory=tmp_path)
    text = benchmarks_page.page({"mimicgen": results.read(path)})
    assert "Attempts at a new demonstration that succeed: 90 % [" in text
    assert "60 [50, 70] (n = 2) points" in text and "] (40/50) | < 0.0001 |" in text


def test_tables_are_well_formed() -> None:
    text = benchmarks_page.page(results.read_all())
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_numbers_have_three_digits_and_small_p_values_a_bound() -> None:
    assert [page_parts.number(x) for x in (1234.5, 99.96, 1.234, 0.0123456)] == ["1234", "100", "1.23", "0.0123"]
    assert page_parts.probability({"value": 0.00003}) == "< 0.0001"
    assert page_parts.probability({"value": 0.0378}) == "0.038"
