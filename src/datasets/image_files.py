"""Files of images: which files of a folder are images, their sizes, and reading them as RGB."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from src.artifacts.errors import UserError
from src.datasets.shards import ImagePath, archived_images, header_of, source_of

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Errors that Pillow raises on arbitrary bytes, and on headers of more pixels than its limit."""
_JPEG_SUFFIXES = (".jpg", ".jpeg")
_END_OF_JPEG = b"\xff\xd9"
# Images beyond Pillow's limit are refused here; its warning would only stand before the error.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def image_files(folder: Path) -> list[Path]:
    """Return the files of ``folder`` with an image suffix, except hidden ones, in no fixed order."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def images_of(folder: Path) -> list[ImagePath]:
    """Return the ``image_files`` of ``folder``; if it has none, the images in its tar archives."""
    return image_files(folder) or archived_images(folder, SUFFIXES)


def require_images(folder: Path) -> list[ImagePath]:
    """Return ``images_of`` a ``folder``, in no order; ``UserError`` if it is missing or empty."""
    if not folder.is_dir():
        raise UserError(f"no image folder at {folder}")
    paths = images_of(folder)
    if not paths:
        raise UserError(f"no images in {folder}")
    return paths


def folder_with(path: Path, markers: Sequence[str], inside: Sequence[str], advice: str) -> Path:
    """Return the folder of a published set: one of ``inside`` below ``path``, or ``path`` itself.

    The folder must hold a file with a name from ``markers``. The message of ``UserError`` ends with
    ``advice``.
    """
    for folder in (*(path / name for name in inside), path):
        if any((folder / marker).is_file() for marker in markers):
            return folder
    raise UserError(f"no {markers[0]} in {path / inside[0]} nor in {path}: {advice}")


def read_image(path: ImagePath, resize: int = 0) -> tuple[np.ndarray, str | None]:
    """Read (height, width, 3) uint8 RGB, and a note if the file was truncated or converted.

    The decodable part of a truncated file is kept; palette, grey, CMYK and alpha images are converted.
    Raises ``UserError`` if nothing can be decoded.
    """
    notes = []
    try:
        image = Image.open(source_of(path))
        _require_few_pixels(path, image)
        if image.mode != "RGB":
            notes.append(f"converted from {image.mode}")
        try:
            image.load()
        except OSError:
            notes.append("truncated")
            image = _load_truncated(path)
        image = image.convert("RGB")
    except _UNREADABLE as error:
        raise UserError(f"{path} is not a readable image: {error}") from error
    if resize:
        image = image.resize((resize, resize), Image.Resampling.BICUBIC)
    return np.asarray(image), ", ".join(notes) or None


def require_jpeg(folder: Path) -> None:
    """Raise ``UserError`` if no image of ``folder`` is a JPEG file by its suffix."""
    if not any(path.suffix.lower() in _JPEG_SUFFIXES for path in images_of(folder)):
        raise UserError(f"no image in {folder} is a JPEG file: use --decoder pillow")


def colour_jpeg(path: ImagePath) -> bytes | None:
    """Return the bytes of a JPEG file that any decoder reads as it is meant; None for other files.

    It is whole, and a header says that it has three channels in YCbCr. Grey, CMYK and RGB files, files
    of several images and truncated ones are left to ``read_image``.
    """
    try:
        content = path.read_bytes()
        image = Image.open(io.BytesIO(content))
    except _UNREADABLE:
        return None
    transform = image.info.get("adobe_transform", 1 if "jfif" in image.info else None)
    colour = image.format == "JPEG" and image.mode == "RGB" and transform == 1
    return content if colour and content.endswith(_END_OF_JPEG) else None


def _load_truncated(path: ImagePath) -> Image.Image:
    """Decode the existing part of a file that ends too early."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        image = Image.open(source_of(path))
        image.load()
        return image
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def image_size(path: ImagePath) -> tuple[int, int]:
    """Read (width, height) from the header of an image; ``UserError`` if it is none."""
    try:
        try:
            image = Image.open(header_of(path))
        except _UNREADABLE:
            image = Image.open(source_of(path))  # a long header, or no image
        with image:
            _require_few_pixels(path, image)
            return image.size
    except _UNREADABLE as error:
        raise UserError(f"{path} is not a readable image: {error}") from error


def limit_pixels(max_pixels: int) -> None:
    """Refuse images of more than ``max_pixels`` from now on, by their headers and before memory is taken.

    The limit is Pillow's own, which holds for every image that this process reads.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels


def _require_few_pixels(path: ImagePath, image: Image.Image) -> None:
    """Raise ``UserError`` for an image beyond the limit; Pillow itself refuses twice the limit."""
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise UserError(
            f"{path} has {width} x {height} pixels, more than {Image.MAX_IMAGE_PIXELS}: make it smaller, "
            "or raise the limit of --max_pixels"
        )
