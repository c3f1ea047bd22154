"""Published directories into a network: the same hidden states as `transformers`, and nothing left over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from kinema.checkpoints import layouts
from kinema.checkpoints.backbones import load_backbone
from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec
from kinema.heads.regression import Regression
from kinema.nets.base import joined
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import Decoder
from kinema.nets.towers.sizes import TINY_DINOV2, TINY_SIGLIP, Tower
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
WIDTH, IMAGE = 48, 319  # the width of the language model; the word that stands for an image in `transformers`
TEXT = {"vocab_size": 320, "hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 12}
VISION = {
    "image_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
GEMMA = Decoder(family="gemma", layers=2, width=WIDTH, hidden=64, heads=4, kv_heads=1, head_width=12, vocabulary=320)
LLAMA = replace(GEMMA, family="llama", layers=3, kv_heads=2, norm_eps=1e-5, tied=False)
ROBOT = RobotSpec(
    embodiment="testarm", rate_hz=10.0,
    observation=ObservationSpec(
        cameras=tuple(Camera(name=name, height=32, width=32) for name in ("front", "wrist")), instruction=True
    ),
    action=ActionSpec(
        components=("x",), units=("m",), frame="world", kind="end-effector delta position", integrator="controller",
        low=(-1.0,), high=(1.0,),
    ),
)  # fmt: skip


def network(trunk: LanguageModel, **vision: Any) -> Network:
    config = PolicyConfig(
        encoders={"eyes": VisionLanguage(cameras=("front", "wrist"), **vision), "words": Prompt(length=12)},
        trunk=trunk, head=Regression(), width=WIDTH, pred_horizon=2, exec_horizon=1,
    )  # fmt: skip
    torch.manual_seed(1)
    return Network(config, ROBOT).eval()


def sample() -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 1, 32, 32, 3), np.uint8)
    return {
        "image.front": torch.from_numpy(images[0]), "image.wrist": torch.from_numpy(images[1]),
        "instruction": ["push it", "open"],
    }  # fmt: skip


def lively(model: Any) -> Any:
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.1
    return model.eval()


def paligemma(directory: Path) -> Any:
    torch.manual_seed(0)
    config = transformers.PaliGemmaConfig(
        vision_config={**VISION, "model_type": "siglip_vision_model", "patch_size": 8, "vision_use_head": False},
        text_config={**TEXT, "model_type": "gemma", "num_hidden_layers": 2, "num_key_value_heads": 1},
        projection_dim=WIDTH, hidden_size=WIDTH, image_token_index=IMAGE, attn_implementation="eager",
    )  # fmt: skip
    model = lively(transformers.PaliGemmaForConditionalGeneration(config))
    model.save_pretrained(directory)
    return model


def smolvlm(directory: Path, name: str = "SmolVLM") -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vision_config={**VISION, "patch_size": 4}, scale_factor=4, image_token_id=IMAGE,
        text_config={**TEXT, "model_type": "llama", "num_hidden_layers": 3, "num_key_value_heads": 2,
                     "rms_norm_eps": 1e-5},
        attn_implementation="eager",
    )  # fmt: skip
    model = lively(getattr(transformers, f"{name}ForConditionalGeneration")(config))
    model.save_pretrained(directory, max_shard_size="50KB")
    return model


SMALL = replace(TINY_SIGLIP, patch=4)
LAYOUTS: dict[str, tuple[Callable[[Path], Any], Callable[..., Network]]] = {
    "paligemma": (paligemma, lambda: network(LanguageModel(size=GEMMA), towers=(TINY_SIGLIP,))),
    "smolvlm": (
        smolvlm,
        lambda size=LLAMA, layers=None: network(
            LanguageModel(size=size, attention="causal", layers=layers),
            towers=(SMALL,), projector="pixel_shuffle", shuffle=4,
        ),
    ),
}  # fmt: skip


def prefix(own: Network) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return image tokens, hidden states and mask of the whole prefix, the words, and scaled images of `sample`."""
    given = sample()
    tokens = {name: encoder(given, None) for name, encoder in own.encoders.items()}
    together = joined(list(tokens.values()))
    images = torch.stack([given["image.front"][:, 0], given["image.wrist"][:, 0]], dim=1)
    pixels = ((images / 255 - 0.5) / 0.5).permute(0, 1, 4, 2, 3)
    assert together.ids is not None
    words = torch.where(together.mask, together.ids, 0)
    context = own.trunk(together)
    return tokens["eyes"].values, context.tokens, together.mask, torch.where(words < 0, IMAGE, words), pixels


@torch.no_grad()
def test_paligemma_gives_the_same_hidden_states(tmp_path: Path) -> None:
    theirs, own = paligemma(tmp_path), LAYOUTS["paligemma"][1]()
    load_backbone(own, tmp_path)
    seen, hidden, mask, words, pixels = prefix(own)
    features = theirs.model.get_image_features(pixels.flatten(0, 1)).pooler_output
    assert (seen - features.reshape(seen.shape)).abs().max() <= 1e-5 < features.std()
    expected = theirs.model(
        input_ids=words, pixel_values=pixels.flatten(0, 1), attention_mask=mask.long(),
        token_type_ids=torch.zeros_like(words),
    ).last_hidden_state  # fmt: skip
    assert (hidden - expected)[mask].abs().max() <= 1e-4 < expected.std()
    assert (own.trunk.logits(hidden) - theirs.lm_head(expected))[mask].abs().max() <= 1e-3


@torch.no_grad()
def test_words_past_those_of_the_trunk_are_left_out(tmp_path: Path) -> None:
    theirs = paligemma(tmp_path)
    own = network(LanguageModel(size=replace(GEMMA, vocabulary=300)), towers=(TINY_SIGLIP,))
    load_backbone(own, tmp_path)
    assert torch.equal(own.trunk.embed(torch.arange(300)), theirs.lm_head.weight[:300] * WIDTH**0.5)
    with pytest.raises(CheckpointError, match="vocabulary is 321, not 320"):
        load_backbone(network(LanguageModel(size=replace(GEMMA, vocabulary=321)), towers=(TINY_SIGLIP,)), tmp_path)


@pytest.mark.parametrize("name", ["SmolVLM", "Idefics3"])
@torch.no_grad()
def test_smolvlm_gives_the_same_hidden_states_from_shards(name: str, tmp_path: Path) -> None:
    theirs, own = smolvlm(tmp_path, name), LAYOUTS["smolvlm"][1]()
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    load_backbone(own, tmp_path)
    seen, hidden, mask, words, pixels = prefix(own)
    features = torch.cat(list(theirs.model.get_image_features(pixels).pooler_output))
    assert (seen.flatten(0, 1) - features).abs().max() <= 1e-5
    expected = theirs.model(input_ids=words, pixel_values=pixels, attention_mask=mask.long()).last_hidden_state
    assert (hidden - expected)[mask].abs().max() <= 1e-4 < expected.std()
    assert (own.trunk.logits(hidden) - theirs.lm_head(expected))[mask].abs().max() <= 1e-3


@torch.no_grad()
def test_the_first_layers_without_the_head(tmp_path: Path) -> None:
    """SmolVLA: the lower half of SmolVLM's language model, which says no words."""
    theirs, own = smolvlm(tmp_path), LAYOUTS["smolvlm"][1](replace(LLAMA, tied=True), layers=2)
    with pytest.raises(CheckpointError, match="language model: tied is True, not False"):
        load_backbone(own, tmp_path)
    load_backbone(own, tmp_path, head=False)
    _, hidden, mask, words, pixels = prefix(own)
    theirs.model.text_model.layers = theirs.model.text_model.layers[:2]
    expected = theirs.model(input_ids=words, pixel_values=pixels, attention_mask=mask.long()).last_hidden_state
    assert (hidden - expected)[mask].abs().max() <= 1e-4


@torch.no_grad()
def test_openvla_gives_the_features_of_timm_and_the_hidden_states_of_llama(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, golden, llama = openvla(tmp_path, monkeypatch)
    load_backbone(own, tmp_path)
    images = torch.from_numpy(golden["images"])
    raster = own.encoders["eyes"].patches(images)
    assert (raster.flatten(1, 2) - torch.from_numpy(golden["features"])).abs().max() <= 1e-5
    seen, hidden, mask, words, _ = prefix(own)
    embedded = torch.where((words == IMAGE)[..., None], 0, llama.model.embed_tokens(words))
    embedded[:, : seen.shape[1]] = seen
    expected = llama.model(inputs_embeds=embedded, attention_mask=mask.long()).last_hidden_state
    assert (hidden - expected)[mask].abs().max() <= 1e-4 < expected.std()


def openvla(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Network, Any, Any]:
    golden = dict(np.load(GOLDENS / "prismatic_towers.npz"))
    small = {"width": 16, "heads": 2, "norm": False, "activation": "gelu"}
    towers: tuple[Tower, ...] = (
        replace(TINY_DINOV2, hidden=64, registers=2, **small), replace(TINY_SIGLIP, hidden=48, **small)
    )  # fmt: skip
    monkeypatch.setitem(layouts.TIMM, "tiny_dinov2", towers[0])
    monkeypatch.setitem(layouts.TIMM, "tiny_siglip", towers[1])
    own = network(LanguageModel(size=LLAMA, attention="causal"), towers=towers, projector="mlp3")
    torch.manual_seed(2)
    text = {**TEXT, "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
    llama = lively(transformers.LlamaForCausalLM(transformers.LlamaConfig(**text, attn_implementation="eager")))
    weights = {name: torch.from_numpy(value) for name, value in golden.items() if name.startswith("vision")}
    weights |= {f"language_model.{name}": value for name, value in llama.state_dict().items()}
    shapes = own.encoders["eyes"].projector.state_dict()
    weights |= {f"projector.{name}": torch.randn_like(value) * 0.1 for name, value in shapes.items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, directory / "model.safetensors")
    config = {
        "model_type": "openvla", "timm_model_ids": ["tiny_dinov2", "tiny_siglip"], "image_sizes": [32, 32],
        "timm_override_act_layers": [None, None], "text_config": {**text, "model_type": "llama"},
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    return own, golden, llama


def test_files_of_either_naming(tmp_path: Path) -> None:
    """Some versions of `transformers` nest the language model otherwise; bfloat16 becomes what the network holds."""
    paligemma(tmp_path)
    weights = {}
    for name, value in load_file(tmp_path / "model.safetensors").items():
        assert name.startswith(("language_model.model.", "multi_modal_projector.", "vision_tower."))
        weights[f"model.{name.replace('language_model.model.', 'language_model.')}"] = value.bfloat16()
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors")
    own = LAYOUTS["paligemma"][1]()
    load_backbone(own, tmp_path)
    found = own.trunk.model.layers[1].mlp.up_proj.weight
    assert found.dtype == torch.float32
    assert torch.equal(found, weights["model.language_model.layers.1.mlp.up_proj.weight"].float())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_weight_has_a_place_or_is_named(layout: str, tmp_path: Path) -> None:
    save, build = LAYOUTS[layout]
    save(tmp_path)
    for path in tmp_path.glob("*.index.json"):
        path.unlink()
    weights: dict[str, torch.Tensor] = {}
    for path in list(tmp_path.glob("*.safetensors")):
        weights |= load_file(path)
        path.unlink()
    own = build()
    before = {name: value.clone() for name, value in own.state_dict().items()}

    def refused(changed: dict[str, torch.Tensor], said: str) -> None:
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=said):
            load_backbone(own, tmp_path)

    some = next(name for name in weights if "layers.1.self_attn.q_proj.weight" in name and "vision" not in name)
    rest = {name: value for name, value in weights.items() if name != some}
    place = r"language\.layers\.1\.self_attn\.q_proj\.weight"
    refused(rest, rf"no weight for '{place}' \(1 in all\)$")
    refused({**weights, "added": torch.zeros(1)}, r"no place for 'added' \(1 in all\)$")
    renamed = some.replace("q_proj", "query")
    refused(
        {**rest, renamed: weights[some]}, rf"no weight for '{place}'; did you mean '[^']*query[^']*'.*\nno place for"
    )
    refused({**weights, some: torch.zeros(3, 5)}, rf"is \(3, 5\), but {place} \(48, 48\) \(1 in all\)")
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items()), "nothing was copied"


def test_another_size_is_named_field_by_field(tmp_path: Path) -> None:
    paligemma(tmp_path)
    wrong = network(
        LanguageModel(size=replace(GEMMA, rope_theta=5e5, heads=2, head_width=24)),
        towers=(replace(TINY_SIGLIP, heads=4, activation="gelu"),), grid=2,
    )  # fmt: skip
    with pytest.raises(CheckpointError) as caught:
        load_backbone(wrong, tmp_path)
    assert str(caught.value).splitlines()[1:] == [
        "tower 0: heads is 4, not 2",
        "tower 0: activation is 'gelu', not 'gelu_pytorch_tanh'",
        "language model: heads is 2, not 4",
        "language model: head_width is 24, not 12",
        "language model: rope_theta is 500000.0, not 10000.0",
    ]
    other = network(LanguageModel(size=GEMMA), towers=(TINY_SIGLIP,), projector="mlp3")
    with pytest.raises(CheckpointError, match=r"projector and shuffle are \('mlp3', None\), not \('linear', None\)"):
        load_backbone(other, tmp_path)


def test_images_of_another_size_take_the_published_positions(tmp_path: Path) -> None:
    paligemma(tmp_path)
    own = network(LanguageModel(size=GEMMA), towers=(replace(TINY_SIGLIP, native=32),), grid=2)
    load_backbone(own, tmp_path)
    [published] = [v for n, v in load_file(tmp_path / "model.safetensors").items() if "position_embedding" in n]
    [taken] = [v for n, v in own.state_dict().items() if "position_embedding" in n]
    assert torch.equal(taken, published)


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    own = LAYOUTS["paligemma"][1]()
    for config, said in (
        ({"model_type": "llava"}, r"unknown model_type of config\.json 'llava'.*\nknown: .*paligemma"),
        ({"model_type": "openvla", "timm_model_ids": ["vit"]}, "unknown timm model .* 'vit'"),
        ({"model_type": "openvla"}, r"expected two towers"),
        ({"model_type": "paligemma", "text_config": {"model_type": "gemma2"}}, "'gemma2' is not supported"),
        ({"model_type": "openvla", "timm_model_ids": 3}, r"config\.json: an entry is not what it should be"),
        ({"model_type": "paligemma", "vision_config": {"layer_norm_eps": 1e-3}}, r"layer_norm_eps is 0\.001"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(KinemaError, match=said):
            load_backbone(own, tmp_path)
    with pytest.raises(KinemaError, match="the network has 0 VisionLanguageEncoders, expected one"):
        load_backbone(own.trunk, tmp_path)
