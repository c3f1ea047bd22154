"""Write prismatic_towers.npz: tiny timm image transformers as OpenVLA holds them, images, and the features it reads.

Run with timm 0.9.16, the last version that OpenVLA allows: `python tests/goldens/make_prismatic_towers.py`.
"""

from pathlib import Path

import numpy as np
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

SHARED = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 0}
SCALING = (((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,) * 3, (0.5,) * 3))


def main() -> None:
    assert timm.__version__ == "0.9.16"
    torch.manual_seed(0)
    towers = {
        "featurizer": VisionTransformer(
            **SHARED, mlp_ratio=4, reg_tokens=2, no_embed_class=True, init_values=1.0, global_pool="token"
        ),
        "fused_featurizer": VisionTransformer(**SHARED, mlp_ratio=3, class_token=False, global_pool="map"),
    }
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    saved, features = {}, []
    for (name, tower), (mean, deviation) in zip(towers.items(), SCALING, strict=True):
        for weight in tower.parameters():
            weight.data += torch.randn_like(weight) * 0.2
        pixels = (torch.from_numpy(images) / 255 - torch.tensor(mean)) / torch.tensor(deviation)
        with torch.no_grad():
            # OpenVLA's forward: the output of the block before the last, without norm, class and register tokens.
            [found] = tower.eval().get_intermediate_layers(pixels.permute(0, 3, 1, 2), n={len(tower.blocks) - 2})
        features.append(found)
        for key, weight in tower.state_dict().items():
            # OpenVLA renames gamma, which `transformers` would overwrite.
            saved[f"vision_backbone.{name}.{key.replace('gamma', 'scale_factor')}"] = weight.numpy()
    path = Path(__file__).with_name("prismatic_towers.npz")
    np.savez_compressed(path, images=images, features=torch.cat(features, dim=2).numpy(), **saved)


if __name__ == "__main__":
    main()
