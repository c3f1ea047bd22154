"""Write what LeRobot's pi0 of tiny sizes says: its weights, a loss and the actions that it samples.

    python tests/goldens/make_pi0.py tests/goldens/pi0.npz

Needs an environment with lerobot 0.4.4 and transformers 4.53.3.

LeRobot's pi0 asks for a changed copy of transformers, which no registry has. What that copy changes of Gemma is made
here: norms return a pair, embeddings are not scaled, and a cache that is only read does not grow.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
import torch
import transformers.models.siglip as siglip
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from transformers.models.gemma import modeling_gemma
from transformers.models.paligemma.configuration_paligemma import PaliGemmaConfig

WORDS, PATCHES = 24, 5


def norm(self: Any, x: torch.Tensor, cond: None = None) -> tuple[torch.Tensor, None]:
    scaled = self._norm(x.float()) * (1.0 + self.weight.float())
    return scaled.type_as(x), None


def run(
    self: Any,
    inputs_embeds: Any,
    attention_mask: Any,
    position_ids: Any,
    past_key_values: Any,
    use_cache: bool,
    **_: Any,
) -> Any:
    hidden, kept = inputs_embeds, []
    cos, sin = self.rotary_emb(hidden, position_ids)
    for index, layer in enumerate(self.layers):
        attention = layer.self_attn
        normed, _ = layer.input_layernorm(hidden)
        query, key, value = (
            project(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = modeling_gemma.apply_rotary_pos_emb(query, key, cos, sin)
        if past_key_values is not None:
            key, value = (
                torch.cat([old, new], 2) for old, new in zip(past_key_values[index], (key, value), strict=True)
            )
        kept.append((key, value))
        read, _ = modeling_gemma.eager_attention_forward(
            attention, query, key, value, attention_mask, attention.scaling
        )
        hidden = hidden + attention.o_proj(read.flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden)[0])
    return types.SimpleNamespace(last_hidden_state=self.norm(hidden)[0], past_key_values=kept if use_cache else None)


def patch() -> None:
    sys.modules["transformers.models.siglip.check"] = siglip.check = types.SimpleNamespace(
        check_whether_transformers_replace_is_installed_correctly=lambda: True
    )
    modeling_gemma.GemmaRMSNorm.forward = norm
    modeling_gemma.GemmaModel.forward = run
    modeling_gemma._gated_residual = lambda x, y, gate: x + y
    sizes = {
        "gemma_2b": modeling_pi0.GemmaConfig(width=32, depth=3, mlp_dim=48, num_heads=8, num_kv_heads=1, head_dim=8),
        "gemma_300m": modeling_pi0.GemmaConfig(width=16, depth=3, mlp_dim=40, num_heads=8, num_kv_heads=1, head_dim=8),
    }
    modeling_pi0.get_gemma_config = sizes.__getitem__
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "model_type": "siglip_vision_model"}
    mapping = {**dict(modeling_pi0.CONFIG_MAPPING.items()), "paligemma": lambda: PaliGemmaConfig(vision_config=vision)}
    modeling_pi0.CONFIG_MAPPING = mapping


def model() -> Any:
    torch.manual_seed(0)
    policy = modeling_pi0.PI0Pytorch(PI0Config(dtype="float32", chunk_size=6, n_action_steps=6, device="cpu")).eval()
    language = policy.paligemma_with_expert.paligemma.language_model
    language.embed_tokens = torch.nn.Embedding(WORDS, 32)
    for name, parameter in policy.named_parameters():
        if "norm" in name or parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
        parameter.data = parameter.data.half().float()  # so that half as many bytes hold it
    # The tower is not compared here: what it would make is given.
    policy.paligemma_with_expert.embed_image = lambda image: image
    return policy


def main(path: Path) -> None:
    """Write the golden to `path`."""
    patch()
    policy = model()
    language, expert = policy.paligemma_with_expert.paligemma.language_model, policy.paligemma_with_expert.gemma_expert
    weights = {f"trunk.{name}": value for name, value in language.state_dict().items()}
    weights |= {f"expert.{name}": value for name, value in expert.model.state_dict().items()}
    weights |= {name: value for name, value in policy.state_dict().items() if "paligemma_with_expert" not in name}
    weights = {name: value.half() for name, value in weights.items()}
    torch.manual_seed(1)
    given = {
        "images": torch.randn(2, 2, PATCHES, 32),
        "shown": torch.tensor([[True, True], [True, False]]),
        "words": torch.randint(0, WORDS, (2, 7)),
        "present": torch.arange(7) < torch.tensor([[7], [4]]),
        "state": torch.randn(2, 32),
        "action": torch.randn(2, 6, 32),
        "noise": torch.randn(2, 6, 32),
        "time": torch.tensor([0.25, 0.875]),
    }
    images, shown = list(given["images"]), list(given["shown"])
    prefix = (images, shown, given["words"], given["present"], given["state"])
    with torch.no_grad():
        loss = policy.forward(*prefix, given["action"], noise=given["noise"], time=given["time"])
        sampled = policy.sample_actions(*prefix, noise=given["noise"], num_steps=10)
    arrays = {**weights, **{f"given.{name}": value for name, value in given.items()}, "loss": loss, "sampled": sampled}
    np.savez_compressed(path, **{name: value.numpy() for name, value in arrays.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
