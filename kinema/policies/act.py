"""ACT: chunks of actions from images by a transformer with a latent "style" (Zhao et al. 2023)."""

from __future__ import annotations

from typing import Any

from kinema.heads.cvae import Cvae
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.resnet import ResNet
from kinema.nets.trunks.transformer import Transformer
from kinema.policies._presets import horizons, numbers, sized
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "width": 128,
        "images": {"layers": 10, "channels": 16, "stages": 3},
        "attention": {"heads": 4, "hidden": 512, "dropout": 0.1},
        "layers": 2,
        "horizons": (16, 8),
    },
    "published": {
        "width": 512,
        "images": {"layers": 18, "norm": "frozen"},
        "attention": {"heads": 8, "hidden": 3200, "dropout": 0.1},
        "layers": 4,
        "horizons": (100, 100),
    },
}


def act(
    *,
    cameras: tuple[str, ...],
    state: str | None = "proprioception",
    language: EncoderConfig | None = None,
    size: str = "small",
    pred_horizon: int | None = None,
    exec_horizon: int | None = None,
) -> PolicyConfig:
    """Return ACT over the named cameras and the vector `state`; an instruction is a token more, if `language` is given.

    Size "published" is the authors' with LeRobot's one decoder layer: 52 million parameters, trained by AdamW at 1e-5
    with decay 1e-4, 8 chunks a step, from a ResNet-18 that has seen ImageNet (its batch norm is frozen, so that without
    such weights norm "group" learns better). They execute the whole chunk, or average chunks (`ensemble`).
    """
    sizes = sized("act", SIZES, size)
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    if state is not None:
        # The posterior has a projection of the state of its own.
        encoders |= {name: Proprioception(vector=state, hidden=None) for name in ("style", "state")}
    encoders["images"] = ResNet(cameras=cameras, **sizes["images"])
    layers, attention = sizes["layers"], sizes["attention"]
    head = Cvae(state=None if state is None else "style", posterior_layers=layers, **attention)
    return PolicyConfig(
        encoders=encoders,
        trunk=Transformer(layers=layers, **attention),
        head=head,
        transforms=(Normalise(modes=dict.fromkeys(numbers(state), "mean_std")),),
        width=sizes["width"],
        **horizons(sizes["horizons"], pred_horizon, exec_horizon),
    )
