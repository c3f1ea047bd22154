import importlib.resources
import json
import re
from collections import Counter
from typing import Any

import pytest

SIZES = {"easy": 28, "medium": 11, "hard": 6, "very_hard": 5}

MEMBERS = {
    "medium": "basketball bin-picking box-close coffee-pull coffee-push hammer peg-insert-side push-wall soccer sweep "
    "sweep-into",
    "hard": "assembly hand-insert pick-out-of-hole pick-place push push-back",
    "very_hard": "disassemble pick-place-wall shelf-place stick-pull stick-push",
}

# Each text of the named task must contain the first pattern and none of the second: the words alone decide.
MARKERS = {
    "button-press": (r"button", r"wall|coffee|down|top|above|over"),
    "button-press-topdown": (r"button.*(down|top|above)|(down|above).*button|button.*overhead", r"wall|coffee|front"),
    "button-press-topdown-wall": (r"wall.*(down|top|above)|(down|above).*wall", r"coffee|front"),
    "button-press-wall": (
        r"wall.*(front|straight in|forward|faces you)|front.*wall|faces you.*wall",
        r"coffee|down|top",
    ),
    "coffee-button": (r"coffee", r"mug|cup"),
    "coffee-pull": (r"(out|away|off|back|remove|withdraw).*coffee|(mug|cup).*(out|away)", r"button|push"),
    "coffee-push": (r"(under|below|beneath|into|up to).*(coffee)", r"button|pull|\bout\b|away|\boff\b"),
    "door-close": (r"clos|shut", r"lock|drawer|window|faucet"),
    "door-lock": (r"\block(ed)?\b", r"unlock|counter|open"),
    "door-open": (r"door.*open|open.*door", r"lock|drawer|window|faucet|shut"),
    "door-unlock": (r"unlock|counter-clockwise", r"(?<!counter-)clockwise|\blocked\b"),
    "drawer-close": (r"drawer.*(shut|clos|back in)|(close|shut).*drawer|drawer's front to close", r"pull|\bout\b"),
    "drawer-open": (r"drawer.*(open|out)|(open|out).*drawer", r"shut|push|\bin\b"),
    "faucet-close": (r"clos|off|(?<!counter-)clockwise", r"counter|\bon\b|open"),
    "faucet-open": (r"open|\bon\b|counter-clockwise", r"clos|\boff\b|(?<!counter-)clockwise"),
    "handle-press": (r"press|push|down|low", r"side|pull|lift|raise|\bup"),
    "handle-press-side": (r"side.*(press|push|down|low)|(press|push|down|low).*side", r"pull|lift|raise|\bup"),
    "handle-pull": (r"pull|lift|raise|\bup|hoist|highest", r"side|press|push|down|low"),
    "handle-pull-side": (r"side", r"press|push|down|low"),
    "peg-insert-side": (r"into|in the hole|insert", r"unplug|\bout\b|pull|socket"),
    "peg-unplug-side": (r"\bout\b|unplug|remove|extract|disconnect", r"insert|into"),
    "plate-slide": (r"into|inside|in the cabinet", r"side(ways)?\b(?<!inside)|\bout\b|back"),
    "plate-slide-back": (r"back|towards", r"side(ways)?\b(?<!inside)|into"),
    "plate-slide-back-side": (r"(?<!in)side", r"into|\bback|towards|in the cabinet"),
    "plate-slide-side": (r"(?<!in)side", r"\bout\b|from the cabinet|back|forward|straight"),
    "push": (r"puck", r"wall|back|block|pick|lift|grasp|carry"),
    "push-back": (r"block.*(back)|back.*block", r"puck|wall|sweep|shelf|bin|hole"),
    "push-wall": (r"puck.*wall|wall.*puck", r"pick|lift|grasp|carry|raise|take"),
    "pick-place": (r"puck", r"wall|push|slide|hole|block"),
    "pick-place-wall": (r"puck.*wall|wall.*puck", r"push|slide|shove"),
    "pick-out-of-hole": (r"puck.*hole|hole.*puck", r"block|wall"),
    "hand-insert": (r"hand|grip", r"sweep|slide|push|puck"),
    "sweep": (r"block.*(off|edge)", r"hole"),
    "sweep-into": (r"block.*hole", r"hand|grip|hold|pick"),
    "reach": (r"goal|target", r"wall|puck|block"),
    "reach-wall": (r"wall|beyond", r"puck|block|button"),
    "stick-pull": (r"stick.*(pull|drag|draw)|(pull|drag|draw).*stick", r"push|shove|poke|away"),
    "stick-push": (r"stick.*(push|shove)|(push|shove|poke).*stick", r"pull|drag|hook|draw"),
    "window-close": (r"window.*(clos|shut)|(close|shut).*window", r"\bto open\b|is open"),
    "window-open": (r"window.*open|open.*window", r"shut|to close|is closed"),
    "assembly": (r"nut.*(on|over|around|peg)", r"\boff\b|remove|separate|unhook|raise"),
    "disassemble": (r"nut.*(off|from|clear|above)", r"onto|lower|around"),
}


def load() -> dict[str, dict[str, Any]]:
    resource = importlib.resources.files("kinema").joinpath("sim/suites/metaworld.json")
    return json.loads(resource.read_text(encoding="utf-8"))


def texts_of(task: dict[str, Any]) -> list[str]:
    return [task["instruction"], *task["paraphrases"], *task["held_out"]]


def all_texts() -> list[tuple[str, str]]:
    return [(name, text) for name, task in load().items() for text in texts_of(task)]


def test_fifty_tasks_in_alphabetical_order() -> None:
    names = list(load())
    assert len(names) == 50
    assert names == sorted(names)
    assert not [name for name in names if name.endswith("-v3")]


def test_names_and_experts_are_those_of_metaworld() -> None:
    pytest.importorskip("metaworld")
    from metaworld import policies
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    tasks = load()
    assert {f"{name}-v3" for name in tasks} == set(ALL_V3_ENVIRONMENTS)
    for name, task in tasks.items():
        assert getattr(policies, task["expert"]) is policies.ENV_POLICY_MAP[f"{name}-v3"]


def test_groups_have_the_published_members() -> None:
    tasks = load()
    assert Counter(task["group"] for task in tasks.values()) == SIZES
    for group, members in MEMBERS.items():
        assert {name for name, task in tasks.items() if task["group"] == group} == set(members.split())


def test_every_task_has_exactly_the_agreed_keys() -> None:
    for task in load().values():
        assert set(task) == {"group", "instruction", "paraphrases", "held_out", "expert", "goal"}
        assert len(task["paraphrases"]) >= 4
        assert len(task["held_out"]) == 2
        assert task["goal"].strip()


def test_no_text_occurs_twice_in_the_suite() -> None:
    counts = Counter(text for _, text in all_texts())
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_two_texts_share_the_same_words() -> None:
    """Two texts with one set of words would differ only in order, which a bag-of-words encoder cannot see."""
    seen: dict[frozenset[str], tuple[str, str]] = {}
    for name, text in all_texts():
        words = frozenset(re.findall(r"[a-z0-9-]+", text)) - {"the", "a"}
        other = seen.setdefault(words, (name, text))
        assert other[0] == name, f"{other} and {(name, text)} have the same words"


@pytest.mark.parametrize(("name", "text"), all_texts())
def test_texts_are_plain_lower_case_imperatives(name: str, text: str) -> None:
    assert text == text.lower().strip()
    assert re.fullmatch(r"[a-z0-9',\- ]+", text)
    assert "  " not in text
    assert 2 <= len(text.split()) <= 16
    assert text.split()[0] not in {"the", "a", "an", "please", "robot"}


@pytest.mark.parametrize("name", sorted(MARKERS))
def test_easily_confused_tasks_are_told_apart_by_their_words(name: str) -> None:
    required, forbidden = MARKERS[name]
    for text in texts_of(load()[name]):
        assert re.search(required, text), f"{name}: {text!r} lacks {required}"
        found = re.search(forbidden, text)
        assert found is None, f"{name}: {text!r} contains {found}"
