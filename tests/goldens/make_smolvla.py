"""Write what LeRobot's SmolVLA of tiny sizes says: its weights, a loss and the actions that it samples.

    python tests/goldens/make_smolvla.py tests/goldens/smolvla.npz

Needs an environment with lerobot 0.4.4 and transformers 4.53.3. Nothing is downloaded: the VLM is a random one.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
import torch
from lerobot.policies.smolvla import smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import VLAFlowMatching
from transformers import SmolVLMConfig

WORDS, PATCHES, WIDTH = 24, 5, 32


def config(*_: Any, **__: Any) -> SmolVLMConfig:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    text = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": WORDS,
        "rope_theta": 100_000.0,
        "rms_norm_eps": 1e-5,
        "pad_token_id": 2,
    }
    return SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, tie_word_embeddings=True)


def model() -> Any:
    smolvlm_with_expert.AutoConfig = types.SimpleNamespace(from_pretrained=config)
    tokens = types.SimpleNamespace(fake_image_token_id=0, global_image_token_id=1)
    processor = types.SimpleNamespace(tokenizer=tokens)
    smolvlm_with_expert.AutoProcessor = types.SimpleNamespace(from_pretrained=lambda *_: processor)
    torch.manual_seed(0)
    policy = VLAFlowMatching(SmolVLAConfig(chunk_size=6, n_action_steps=6, num_vlm_layers=3, device="cpu")).eval()
    for name, parameter in policy.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
        elif "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.15)
        parameter.data = parameter.data.half().float()  # so that half as many bytes hold it
    # The tower is not compared here: what it would make is given.
    policy.vlm_with_expert.embed_image = lambda image: image
    return policy


def main(path: Path) -> None:
    """Write the golden to `path`."""
    policy = model()
    language, expert = policy.vlm_with_expert.get_vlm_model().text_model, policy.vlm_with_expert.lm_expert
    weights = {f"trunk.{name}": value for name, value in language.state_dict().items()}
    weights |= {f"expert.{name}": value for name, value in expert.state_dict().items()}
    weights |= {name: value for name, value in policy.state_dict().items() if "vlm_with_expert" not in name}
    weights = {name: value.half() for name, value in weights.items()}
    torch.manual_seed(1)
    given = {
        "images": torch.randn(2, 2, PATCHES, WIDTH) * 0.2,
        "shown": torch.tensor([[True, True], [True, False]]),
        "words": torch.randint(0, WORDS, (2, 7)),
        "present": torch.arange(7) < torch.tensor([[7], [4]]),
        "state": torch.randn(2, 32),
        "action": torch.randn(2, 6, 32),
        "noise": torch.randn(2, 6, 32),
        "time": torch.tensor([0.25, 0.875]),
    }
    prefix = (list(given["images"]), list(given["shown"]), given["words"], given["present"], given["state"])
    with torch.no_grad():
        loss = policy.forward(*prefix, given["action"], noise=given["noise"], time=given["time"])
        sampled = policy.sample_actions(*prefix, noise=given["noise"])
    arrays = {**weights, **{f"given.{name}": value for name, value in given.items()}, "loss": loss, "sampled": sampled}
    np.savez_compressed(path, **{name: value.numpy() for name, value in arrays.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
