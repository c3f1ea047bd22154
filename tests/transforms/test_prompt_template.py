"""The sentences word by word, states as openpi counts them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.core.transform import Chain
from kinema.transforms.normalise import Normalise
from kinema.transforms.prompt_template import PromptTemplate


def said(template: PromptTemplate, text: str, *states: list[float]) -> str:
    sample = {"instruction": [text], "vector.joints": np.array([states], np.float32)}
    [sentence] = template.forward(sample)[0]["instruction"]
    assert sample["instruction"] == [text], "the input stays"
    return str(sentence)


def test_the_sentences_are_those_of_the_published_models() -> None:
    openvla = said(PromptTemplate(template="openvla"), "Put the Eggplant in the sink", [0.0])
    assert openvla == "In: What action should the robot take to put the eggplant in the sink?\nOut:"
    assert said(PromptTemplate(template="pi0"), " pick_up the\nFork ", [0.0]) == "pick up the Fork\n"
    assert said(PromptTemplate(template="smolvla"), " pick_up the\nFork ", [0.0]) == " pick_up the\nFork \n"
    assert said(PromptTemplate(template="smolvla"), "go\n", [0.0]) == "go\n"
    fast = said(PromptTemplate(template="pi0_fast", state="joints"), " Pick_up the Fork", [-1.0, 0.0, 1.0])
    assert fast == "Task: pick up the fork, State: 0 128 255;\n"


def test_a_state_is_clipped_and_counted_in_bins_as_openpi_does() -> None:
    values = np.random.default_rng(0).uniform(-1.0, 1.0, 400).astype(np.float32)
    template = PromptTemplate(template="pi0_fast", state="joints")
    own = said(template, "go", values.tolist()).partition("State: ")[2].rstrip(";\n").split()
    published = np.digitize(values, bins=np.linspace(-1, 1, 256 + 1)[:-1]) - 1
    assert list(map(int, own)) == published.tolist()
    # openpi's formula says -1 below the range.
    assert said(template, "go", [-1.5, -1.0, 0.0, 1.0, 1.5]) == "Task: go, State: 0 0 128 255 255;\n"
    assert said(template, "go", [0.9, 0.9], [-1.0, 1.0]) == "Task: go, State: 0 255;\n", "the newest step"


def test_it_stands_after_what_scales_the_state() -> None:
    statistics = {"vector.joints": {"min": np.array([0.0]), "max": np.array([4.0])}}
    scale = Normalise(modes={"vector.joints": "min_max"}, statistics=statistics)
    chain = Chain((scale, PromptTemplate(template="pi0_fast", state="joints")))
    sample = {"instruction": ["go", "stop"], "vector.joints": np.array([[[2.0]], [[4.0]]], np.float32)}
    texts = chain.forward(sample)[0]["instruction"]
    assert texts == ["Task: go, State: 128;\n", "Task: stop, State: 255;\n"]


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_an_empty_instruction_is_refused(text: str) -> None:
    with pytest.raises(KinemaError, match="the instruction of batch entry 1 is "):
        PromptTemplate(template="openvla").forward({"instruction": ["go", text]})


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(KinemaError, match=r"unknown prompt template 'opnvla'; did you mean 'openvla'\?"):
        PromptTemplate(template="opnvla")  # type: ignore[arg-type]
    with pytest.raises(KinemaError, match="must be told which vector"):
        PromptTemplate(template="pi0_fast")
    with pytest.raises(KinemaError, match="the others say none"):
        PromptTemplate(template="pi0", state="joints")
    with pytest.raises(KinemaError, match=r"'vector\.joints' is missing from the sample; did you mean 'vector\.joint'"):
        PromptTemplate(template="pi0_fast", state="joints").forward({"instruction": ["go"], "vector.joint": 0})
