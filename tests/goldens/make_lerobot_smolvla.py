"""Write lerobot_checkpoints/smolvla: a tiny SmolVLA that LeRobot 0.4.4 saved, and what it says in robot units.

    python tests/goldens/make_lerobot_smolvla.py tests/goldens/lerobot_checkpoints

Needs lerobot 0.4.4 and transformers 4.53.3. As in make_lerobot_checkpoints.py, with the tokenizer and the sizes of its
language model, which LeRobot looks up by name, in the folder vlm. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import sys
import types
from pathlib import Path
from unittest import mock

import make_lerobot_checkpoints as golden
import numpy as np
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.smolvla import smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, SmolVLMConfig

WORDS = ("[unk]", "[pad]", "push", "the", "cup", "open", "drawer", "\n")
TEXTS = ["push the cup", "open the drawer"]


def sizes() -> SmolVLMConfig:
    """Return a tiny vision-language model."""
    vision = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 64, "patch_size": 16,
    }  # fmt: skip
    text = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 12, "rope_theta": 100_000.0,
        "rms_norm_eps": 1e-5, "pad_token_id": 1, "tie_word_embeddings": False,
    }  # fmt: skip
    return SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, tie_word_embeddings=False)


def words(folder: Path) -> None:
    """Write the tokenizer."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [tokenizer.pre_tokenizer, pre_tokenizers.Split(pattern="\n", behavior="isolated")]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[unk]", pad_token="[pad]")
    fast.save_pretrained(folder)


def main(folder: Path) -> None:
    """Write the directory."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "vlm").mkdir(parents=True)
    os.chdir(folder)
    sizes().save_pretrained("vlm")
    words(Path("vlm"))
    processor = types.SimpleNamespace(tokenizer=types.SimpleNamespace(fake_image_token_id=0, global_image_token_id=1))
    smolvlm_with_expert.AutoProcessor = types.SimpleNamespace(from_pretrained=lambda *_: processor)
    config = SmolVLAConfig(
        **golden.features("top"), vlm_model_name="vlm", resize_imgs_with_padding=(64, 64), num_vlm_layers=3,
        chunk_size=6, n_action_steps=4, max_state_dim=5, max_action_dim=6, tokenizer_max_length=8,
    )  # fmt: skip
    with mock.patch.object(smolvlm_with_expert, "AutoConfig") as auto:
        auto.from_pretrained = lambda *_: SmolVLMConfig.from_pretrained("vlm")
        policy = SmolVLAPolicy(config)
    policy.float()
    golden.fill(policy)
    policy.eval()
    before, after = make_pre_post_processors(config, dataset_stats=golden.statistics(("top",)))
    for part in (policy, before, after):
        part.save_pretrained(".")
    seen = before({**golden.observed(("top",), 0), "task": TEXTS})
    noise = torch.from_numpy(golden.uniform("noise", (golden.BATCH, 6, 6)))
    with torch.no_grad():
        chunk = after(policy.predict_action_chunk(seen, noise=noise))
    state = policy.state_dict()
    Path("model.safetensors").unlink()
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        Path("vlm", name).unlink(missing_ok=True)
    shapes = [",".join(str(size) for size in value.shape) for value in state.values()]
    np.savez_compressed("golden.npz", chunk=chunk.numpy(), names=np.array(list(state)), shapes=np.array(shapes))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() / "smolvla")
