"""Whether the files of a dataset hold what its episodes say, told by their indices; nothing is decoded."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from kinema.core.errors import DataError
from kinema.data.lerobot.pictures import frame_files
from kinema.data.lerobot.versions import View, image_shape


def check_files(view: View) -> None:
    """Raise DataError naming the first file that is missing, cut short, or has another number of rows or frames."""
    for path in view.files:
        if not path.is_file():
            raise DataError(f"{path} does not exist")
    rows: dict[str, int] = {}
    for row in view.episodes:
        rows[str(row.data)] = rows.get(str(row.data), 0) + row.length
    for name, expected in rows.items():
        try:
            found = pq.read_metadata(name).num_rows
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{name} is truncated or not a parquet file: {error}") from error
        if found != expected:
            raise DataError(f"{name} holds {found} rows, its episodes have {expected}")
    for camera in view.cameras:
        height, width, _ = image_shape(camera, view.features[camera])
        for file, parts in frame_files(view, camera).items():
            file.open(size=(height, width), length=sum(length for _, _, length in parts)).close()
