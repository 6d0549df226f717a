"""Writing of images."""

import io
from pathlib import Path

from PIL import Image


def write_image(path: Path, image: Image.Image, kind: str, **options: object) -> None:
    """Write ``image`` in the format ``kind``, with options of Pillow; ``OSError`` if the disk is full.

    The file is encoded in memory: for TIFF and JPEG Pillow does not notice that its last write was short.
    """
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    path.write_bytes(stream.getbuffer())
