"""Makes the README's pictures small, with Pillow: ``python -m tests.shrink_pictures FROM TO``."""

import sys
from pathlib import Path

from PIL import Image

COLOURS = 256
WIDTH = 1280


def shrink(source: Path, target: Path) -> None:
    """Write a picture ``WIDTH`` pixels wide, in ``COLOURS`` colours."""
    with Image.open(source) as picture:
        height = round(picture.height * WIDTH / picture.width)
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(COLOURS, kmeans=8, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    origin, destination = map(Path, sys.argv[1:])
    destination.mkdir(exist_ok=True)
    for path in sorted(origin.glob("*.png")):
        shrink(path, destination / path.name)
