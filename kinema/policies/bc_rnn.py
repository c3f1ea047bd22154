"""BC-RNN-GMM: an LSTM over the last ten steps and a mixture of Gaussians (Mandlekar et al. 2021, robomimic)."""

from __future__ import annotations

from typing import Any

from kinema.core.errors import KinemaError
from kinema.heads.gmm import Gmm
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.resnet import ResNet
from kinema.nets.trunks.lstm import Lstm
from kinema.policies._presets import sized
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise

SIZES: dict[str, dict[str, Any]] = {
    "small": {"width": 128, "images": {"layers": 10, "channels": 16, "stages": 2}},
    "published": {"width": 400, "images": {"layers": 18}},
}


def bc_rnn(
    *,
    cameras: tuple[str, ...] = (),
    state: str | None = "proprioception",
    language: EncoderConfig | None = None,
    modes: int = 5,
    size: str = "small",
    obs_horizon: int = 10,
) -> PolicyConfig:
    """Return BC-RNN-GMM, which predicts one step at a time; every step also reads the instruction if `language`.

    Size "published" is robomimic's LSTM of 2 x 400 units, trained by Adam at 1e-4 with 16 to 100 sequences a step, and
    for images its ResNet-18 with spatial softmax. There each of the 10 steps of a sequence is trained on, with what
    came before it; here the newest, so that an epoch costs more and no action is learnt with less memory than it has
    when acting.
    """
    sizes = sized("bc_rnn", SIZES, size)
    if not cameras and state is None:
        raise KinemaError("bc_rnn observes nothing: give it cameras, a state, or both")
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    if state is not None:
        encoders["state"] = Proprioception(vector=state, per_step=True, hidden=None, raw=True)
    if cameras:
        encoders["images"] = ResNet(cameras=cameras, readout="spatial_softmax", **sizes["images"])
    return PolicyConfig(
        encoders=encoders,
        trunk=Lstm(),
        head=Gmm(modes=modes, blocks=0),
        transforms=(
            Normalise(modes={"action": "min_max"} | ({} if state is None else {f"vector.{state}": "mean_std"})),
        ),
        width=sizes["width"],
        obs_horizon=obs_horizon,
        pred_horizon=1,
        exec_horizon=1,
    )
