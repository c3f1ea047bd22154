"""Implicit behavioural cloning (Florence et al. 2021): an energy of observation and action, searched when acting."""

from __future__ import annotations

from kinema.core.errors import KinemaError
from kinema.heads.energy import Energy
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.film_cnn import FilmCnn
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise


def implicit_bc(
    *,
    cameras: tuple[str, ...] = (),
    state: str | None = "proprioception",
    language: EncoderConfig | None = None,
    head: Energy = Energy(temperature=0.0),  # noqa: B008 - frozen
    width: int = 128,
    obs_horizon: int = 2,
) -> PolicyConfig:
    """Return the composition; it predicts one step, as uniform counter-examples teach little about long chunks.

    Acting takes the candidate of the lowest energy. With `language` the instruction modulates the cameras (FiLM).
    """
    if not cameras and state is None:
        raise KinemaError("implicit_bc observes nothing: give it cameras, a state, or both")
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    condition = None if language is None else "instruction"
    encoders |= {camera: FilmCnn(camera=camera, condition=condition) for camera in cameras}
    scales = {"action": "min_max"}
    if state is not None:
        encoders["state"] = Proprioception(vector=state)
        scales[f"vector.{state}"] = "mean_std"
    return PolicyConfig(
        encoders=encoders,
        trunk=Fusion(),
        head=head,
        transforms=(Normalise(modes=scales),),
        width=width,
        obs_horizon=obs_horizon,
        pred_horizon=1,
        exec_horizon=1,
    )
