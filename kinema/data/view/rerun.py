"""Episodes of a dataset as a recording (.rrd) for the Rerun viewer: images, vectors and actions over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kinema.core.errors import KinemaError, UnavailableError
from kinema.core.spec import ACTION
from kinema.data.lerobot.reader import Dataset
from kinema.data.windows import check_episodes

try:
    import rerun
except ModuleNotFoundError as error:
    raise UnavailableError("this needs the package 'rerun-sdk'\nfix: pip install 'kinema[view]'") from error

_JPEG_QUALITY = 90


def write_rerun(dataset: Dataset, episodes: Sequence[int], path: Path) -> None:
    """Write the chosen episodes to the .rrd file `path`.

    Time is `step`, counted within an episode, and `time` [s]. Entities are `episode_<n>/image/<camera>`,
    `episode_<n>/<vector>` and `episode_<n>/action`, whose series are called `<component> [<unit>]`.
    """
    chosen = check_episodes(dataset, episodes)
    if path.suffix != ".rrd":
        raise KinemaError(f"{path}: expected a name that ends in .rrd")
    recording = rerun.RecordingStream("kinema", recording_id=dataset.content_hash[:16])
    try:
        recording.save(path)
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"cannot write {path}: {error}") from error
    for index in chosen:
        _episode(recording, dataset, index)
    recording.flush()
    recording.disconnect()


def _episode(recording: rerun.RecordingStream, dataset: Dataset, index: int) -> None:
    record, name = dataset.episodes[index], f"episode_{index}"
    steps = np.arange(record.length)
    times = [rerun.TimeColumn("step", sequence=steps), rerun.TimeColumn("time", duration=steps / dataset.spec.rate_hz)]
    text = f"{record.instruction} ({'success' if record.success else 'failure'})"
    recording.log(name, rerun.TextDocument(text), static=True)
    spec = dataset.spec
    series = [(v.name, v.key, v.components, v.units) for v in spec.observation.vectors]
    series.append((ACTION, ACTION, spec.action.components, spec.action.units))
    for label, key, components, units in series:
        values = dataset.column(key)[record.start : record.start + record.length].astype(np.float64)
        names = [f"{component} [{unit}]" for component, unit in zip(components, units, strict=True)]
        recording.log(f"{name}/{label}", rerun.SeriesLines(names=names), static=True)
        recording.send_columns(f"{name}/{label}", indexes=times, columns=rerun.Scalars.columns(scalars=values))
    for camera in spec.observation.cameras:
        for step, image in enumerate(dataset.frames(camera.name).read(record.start + steps)):
            recording.set_time("step", sequence=step)
            recording.set_time("time", duration=step / spec.rate_hz)
            recording.log(f"{name}/image/{camera.name}", rerun.Image(image).compress(jpeg_quality=_JPEG_QUALITY))
