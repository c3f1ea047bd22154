"""RT-1: bins of an action from six frames that the instruction modulates, eight tokens each (Brohan et al. 2022)."""

from __future__ import annotations

from typing import Any

from kinema.actions.bins import Bins
from kinema.core.errors import unknown
from kinema.heads.categorical import Categorical
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.film_efficientnet import FilmEfficientnet
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.sentence import Sentence
from kinema.nets.trunks.causal import Causal
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise
from kinema.transforms.resize import Resize

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "width": 128,
        "resize": (),
        "images": "small",
        "trunk": {"layers": 2, "heads": 4, "head_width": 32, "readouts": 16},
    },
    "published": {
        "width": 512,
        "resize": (Resize(height=300, width=300),),
        "images": "b3",
        "trunk": {"layers": 8, "heads": 8, "head_width": 128, "readouts": 11},
    },
}


def rt1(
    *,
    cameras: tuple[str, ...],
    language: EncoderConfig | None = Sentence(),  # noqa: B008 - frozen
    state: str | None = None,
    size: str = "small",
    readouts: int | None = None,
    obs_horizon: int = 6,
) -> PolicyConfig:
    """Return RT-1, which predicts one step at a time; the authors' has one camera, and no state.

    The instruction reaches the action through the images alone, each camera's through a network of its own. There is a
    readout token for each number of an action: `readouts` says for how many, more than are needed change nothing. Size
    "published" is the authors', at 300 px, with another sentence encoder: 35 million parameters, of which the decoder
    has 19; trained by Adam at 1e-4, with images from ImageNet. Its batch norm keeps statistics that belong to the
    weights of the last step, not to averaged ones: train with `ema_decay` 0.
    """
    if size not in SIZES:
        raise unknown("rt1 size", size, SIZES)
    sizes, condition = SIZES[size], None if language is None else "instruction"
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    encoders |= {name: FilmEfficientnet(camera=name, condition=condition, size=sizes["images"]) for name in cameras}
    scales = {"action": "min_max"}
    if state is not None:
        encoders["state"] = Proprioception(vector=state, hidden=None, per_step=True)
        scales[f"vector.{state}"] = "mean_std"
    trunk = sizes["trunk"] | ({} if readouts is None else {"readouts": readouts})
    return PolicyConfig(
        encoders=encoders,
        trunk=Causal(ignores=() if condition is None else (condition,), **trunk),
        head=Categorical(codec=Bins(convention="rt1"), temperature=0.0, each=True),
        transforms=(*sizes["resize"], Normalise(modes=scales)),
        width=sizes["width"],
        obs_horizon=obs_horizon,
        pred_horizon=1,
        exec_horizon=1,
    )
