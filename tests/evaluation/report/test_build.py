import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.evaluation.report.build import build_report
from kinema.evaluation.report.inputs import ActionSamples, ReportInputs, Video
from kinema.evaluation.report.verdict import arm_sentence, unneeded_tasks, verdict
from kinema.evaluation.results import ArmResult, Evaluation, Latency, Manifest, Outcome
from kinema.evaluation.rollout import Trial

HOSTILE = '<script>alert("x")</script> & open'


def arm(name, successes, *, blind=False, n=25, first=0, instruction="open the door"):
    """One arm whose task k succeeds in episodes first .. first + successes[k] - 1."""
    outcomes = tuple(
        Outcome(
            trial=Trial(start=Start(task=task, seed=7, episode=e), instruction=instruction, variant="seen"),
            success=first <= e < first + wins,
            steps=40 + e,
        )
        for task, wins in successes.items()
        for e in range(n)
    )
    latency = Latency(p50_ms=41.25, p95_ms=55.5, p99_ms=71.75, calls=321, batch=4, cores=2)
    return ArmResult(name=name, description=f"about {name}", blind=blind, outcomes=outcomes, latency=latency)


def evaluation(*arms, planned=None):
    manifest = Manifest(
        command="kinema evaluate run", seeds=(7,), data_hash="d4" * 32, policy_hash="9b" * 32,
        versions={"numpy": "2.0.1"}, cores=2, date="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    return Evaluation(arms=arms, planned=planned or tuple(a.name for a in arms), main=arms[0].name, manifest=manifest)


MAIN = arm("policy", {"door": 20, "drawer": 25}, instruction=HOSTILE)
BLIND = arm("noise-cameras", {"door": 0, "drawer": 25}, blind=True)


def videos(size=3000):
    chosen = [MAIN.outcomes[0], MAIN.outcomes[22], MAIN.outcomes[30]]
    return [Video(arm="policy", trial=o.trial, mp4=bytes([i]) * size, success=o.success) for i, o in enumerate(chosen)]


def inputs(**changes):
    given = ReportInputs(
        title="Doors & drawers",
        evaluation=evaluation(MAIN, BLIND),
        command="kinema train doors --seed 7",
        run={"data_hash": "d4" * 32, "seed": 7},
        configuration={"pred_horizon": 16, "note": HOSTILE},
        training_log=[
            {"step": s, "loss": 1 / (s + 1), "held_out_loss": 2.0 if s == 5 else None, "learning_rate": 1e-4}
            for s in range(10)
        ],
        videos=videos(),
        actions=ActionSamples(
            policy=np.zeros((11, 2)), demonstrations=np.ones((13, 2)), components=("x", "grip"), units=("m", "1")
        ),
    )
    return replace(given, **changes)


class Page(HTMLParser):
    """All tags with their attributes, and the text outside style and script."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.stack = [], "", []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text.replace("\u00a0", " "))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        self.text += " " if tag in ("td", "th") else ""
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self.stack):
            self.text += data

    def values(self, *names):
        return [value for _, attrs in self.tags for name, value in attrs.items() if name in names]


def test_the_page_loads_nothing_from_anywhere():
    html = build_report(inputs())
    links = Page(html).values("src", "href", "poster", "data", "action", "srcset", "xlink:href")
    assert links
    assert all(link.startswith(("#", "data:video/mp4;base64,")) for link in links)
    assert not re.search(r"https?://|url\(|@import|//[a-z]+\.", html)
    policy = next(a["content"] for t, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_every_link_leads_somewhere_and_ids_are_unique():
    page = Page(build_report(inputs()))
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in page.values("href")} <= set(ids)


def test_all_numbers_are_there_with_n_and_interval():
    text = Page(build_report(inputs())).text
    for expected in (
        "95 % interval 79 to 96 %, n = 50",
        "20/25 [61, 91]",
        "25/25 [87, 100]",
        "0/25 [0, 13]",
        "45/50 [79, 96]",
        "25/50 [37, 63]",
        "40 points lower than policy",
        "McNemar p < 0.001",
        "of 50 pairs 20 won by policy alone, 0 by noise-cameras alone",
        "in 1 of 2 tasks: drawer",
        "41.2 55.5 71.8 321 4 2",
        "n = 11 steps",
        "n = 13 steps",
        "d4" * 32,
        "9b" * 32,
        "numpy 2.0.1",
        "kinema train doors --seed 7",
        "kinema evaluate run",
        '"pred_horizon": 16',
    ):
        assert expected in text, expected
    assert Page(build_report(inputs())).text.count("✓") == 45 + 25 + 1 + 2  # cells, legend, two films of successes


def test_everything_is_escaped():
    html = build_report(inputs(title=HOSTILE, command=HOSTILE))
    assert html.count("<script>") == 1
    assert "alert(" not in html.replace("&lt;script&gt;alert(", "")
    assert HOSTILE in Page(html).text
    assert any(HOSTILE in value for value in Page(html).values("title"))


def test_videos_play_failures_first_and_are_linked_from_their_cells():
    page = Page(build_report(inputs()))
    sources = [base64.b64decode(src.split(",")[1])[:1] for src in page.values("src")]
    assert sources == [b"\x01", b"\x00", b"\x02"]
    links = [a["href"] for t, a in page.tags if t == "a" and "film" in a.get("class", "")]
    assert links == ["#video-1", "#video-0", "#video-2"]


def test_the_size_limit_is_kept_and_the_page_says_what_is_missing():
    bare = len(build_report(inputs(videos=())).encode())
    limit = bare + 150_000
    html = build_report(inputs(videos=videos(60_000), size_limit=limit))
    assert len(html.encode()) <= limit
    page = Page(html)
    assert "2 of 3 videos left out" in page.text
    assert [base64.b64decode(src.split(",")[1])[:1] for src in page.values("src")] == [b"\x01"]
    assert "left out" not in Page(build_report(inputs())).text
    with pytest.raises(KinemaError, match="more than the limit of 1000"):
        build_report(inputs(size_limit=1000))


def test_what_was_not_recorded_is_said():
    text = Page(build_report(inputs(run={}, configuration={}, training_log=(), videos=(), actions=None))).text
    for expected in (
        "No videos were recorded", "No action samples were recorded", "No training log was recorded",
        "Configuration: not recorded", "Training run: not recorded",
    ):  # fmt: skip
        assert expected in text
    assert (
        "Planned but not finished: noise-cameras"
        in Page(build_report(inputs(evaluation=evaluation(MAIN, planned=("policy", "noise-cameras"))))).text
    )


def test_inputs_that_do_not_fit_are_named():
    with pytest.raises(KinemaError, match="unknown training log column 'los'; did you mean 'loss'"):
        inputs(training_log=[{"step": 1, "los": 2.0}])
    with pytest.raises(KinemaError, match="a row without step"):
        inputs(training_log=[{"loss": 2.0}])
    with pytest.raises(KinemaError, match="unknown finished arm 'polcy'"):
        inputs(videos=[replace(videos()[0], arm="polcy")])
    stray = replace(MAIN.outcomes[0].trial, start=Start(task="door", seed=8, episode=0))
    with pytest.raises(KinemaError, match=r"seed=8.*which arm 'policy' did not try"):
        inputs(videos=[replace(videos()[0], trial=stray)])
    with pytest.raises(KinemaError, match="contradicts the trial's outcome"):
        build_report(inputs(videos=[replace(videos()[0], success=False)]))
    with pytest.raises(KinemaError, match="2 components, 1 units"):
        ActionSamples(policy=np.zeros((1, 2)), demonstrations=np.zeros((1, 2)), components=("x", "y"), units=("m",))


def test_verdicts_claim_no_more_than_the_test_shows():
    good = arm("policy", {"door": 20})
    rate = "The main arm, policy, succeeds in 80 % of its episodes (95 % interval 61 to 91 %, n = 25)"
    blind = arm("blind", {"door": 2}, blind=True)
    other = arm("deaf", {"door": 1}, blind=True)
    as_good = arm("noise", {"door": 19}, blind=True)
    assert (
        verdict(evaluation(good))
        == f"{rate}; no blind control was run, so nothing here shows that it uses what it observes."
    )
    assert verdict(evaluation(good, blind)).startswith(f"{rate}, and its blind control does clearly worse")
    assert "both blind controls do clearly worse" in verdict(evaluation(good, blind, other))
    assert "not shown to do better than the blind control noise:" in verdict(evaluation(good, blind, as_good))
    zero = evaluation(arm("policy", {"door": 0}), arm("blind", {"door": 0}, blind=True))
    assert "0 % of its episodes" in verdict(zero)
    assert "not shown to do better" in verdict(zero)
    assert arm_sentence(zero, zero.arms[1]).startswith("the same as policy; not shown to differ (McNemar p = 1.000")
    better = evaluation(blind, good)
    assert arm_sentence(better, good).startswith("72 points higher than blind; a difference beyond chance")


def test_tasks_that_need_no_eyes():
    """The blind arm wins 5 of its 5 drawer starts and 3 of its 5 door starts, of which the main arm wins 1."""
    main = arm("policy", {"door": 21, "drawer": 25}, first=4)
    few = arm("blind", {"door": 3, "drawer": 5}, n=5, blind=True)
    assert unneeded_tasks(evaluation(main, few)) == {"blind": ["door", "drawer"]}
    page = Page(build_report(inputs(evaluation=evaluation(arm("policy", {"door": 25, "drawer": 20}), few), videos=())))
    assert "of 10 pairs 2 won by policy alone, 0 by blind alone" in page.text
    assert "at least as often as policy in 1 of 2 tasks: drawer" in page.text
    only_door = evaluation(arm("policy", {"door": 25, "drawer": 20}), arm("blind", {"door": 3}, blind=True))
    assert "not tried" in Page(build_report(inputs(evaluation=only_door, videos=()))).text
    assert unneeded_tasks(evaluation(MAIN, BLIND)) == {"noise-cameras": ["drawer"]}
    nothing = evaluation(arm("policy", {"door": 0}), arm("blind", {"door": 0}, blind=True))
    assert unneeded_tasks(nothing) == {"blind": []}
