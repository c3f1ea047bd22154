"""The default small policy: FiLM-conditioned keypoint cameras, proprioception and a sentence, fused for a flow head."""

from __future__ import annotations

from kinema.heads.base import HeadConfig
from kinema.heads.flow import Flow
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.film_cnn import FilmCnn
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.sentence import Sentence
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise


def film_flow(
    *,
    cameras: tuple[str, ...],
    state: str | None = "proprioception",
    language: EncoderConfig | None = Sentence(),  # noqa: B008 - frozen
    head: HeadConfig = Flow(),  # noqa: B008 - frozen
    width: int = 256,
    pred_horizon: int = 16,
    exec_horizon: int = 8,
) -> PolicyConfig:
    """Return the composition over the named cameras and the vector `state`; without `language` it is told nothing."""
    condition = None if language is None else "instruction"
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    encoders |= {camera: FilmCnn(camera=camera, condition=condition) for camera in cameras}
    scales = {"action": "min_max" if head.bounded else "mean_std"}
    if state is not None:
        encoders["proprioception"] = Proprioception(vector=state)
        scales = {f"vector.{state}": "mean_std", **scales}
    return PolicyConfig(
        encoders=encoders,
        trunk=Fusion(),
        head=head,
        transforms=(Normalise(modes=scales),),
        width=width,
        pred_horizon=pred_horizon,
        exec_horizon=exec_horizon,
    )
