"""Draw docs/images/metaworld_views.png: what the suite's views show in three tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kinema.core.episode import Start
from kinema.sim.suites.metaworld import MetaWorld

VIEWS = ("corner2", "corner_table", "corner2_table", "topview_table", "gripperPOV", "behindGripper")
TASKS = ("push", "drawer-open", "peg-insert-side")
SIZE, HEADER = 128, 16


def main() -> None:
    """Write the picture: one row a task, one column a view."""
    environment = MetaWorld(cameras=VIEWS, size=SIZE).make()
    rows = []
    for task in TASKS:
        environment.begin(Start(task=task, seed=0, episode=1))
        frame = environment.observe()
        rows.append(np.concatenate([frame[f"image.{view}"] for view in VIEWS], axis=1))
    environment.close()
    picture = Image.new("RGB", (SIZE * len(VIEWS), HEADER + SIZE * len(TASKS)), "white")
    picture.paste(Image.fromarray(np.concatenate(rows)), (0, HEADER))
    pen = ImageDraw.Draw(picture)
    for column, view in enumerate(VIEWS):
        pen.text((column * SIZE + 4, 2), view, fill="black")
    path = Path(__file__).parents[1] / "docs" / "images" / "metaworld_views.png"
    picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(path, optimize=True)


if __name__ == "__main__":
    main()
