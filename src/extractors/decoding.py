"""Decoding of JPEG files on a GPU (nvJPEG) in place of Pillow.

Levels differ from Pillow's: chroma is upsampled and colours are rounded in another way. The decoder is
therefore recorded, and stages that compare images with changed ones read both with Pillow.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg

from src.artifacts.errors import UserError
from src.cli import require_decoder
from src.datasets.image_files import colour_jpeg
from src.datasets.image_set import ImageSet
from src.extractors.feeding import FittingBatches

BY_PILLOW = "decoded by Pillow"
"""Note on an image that the GPU did not decode."""
# The version of torchvision that is required decodes, and says that a later one will not.
warnings.filterwarnings("ignore", message=".*TorchCodec", category=DeprecationWarning)


class JpegDecoder:
    """Reader of catalogue images for ``device``, which decodes their JPEG files and resizes them there.

    A file that is no whole colour JPEG (``colour_jpeg``), or that the device cannot decode, is read by
    Pillow and has a note. Which decoder reads a file depends on the file alone. Threads may share a
    decoder: they read files at once, and the device decodes one batch at a time. On a CPU the same code
    decodes with torchvision's libjpeg.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._decoding = threading.Lock()
        self._fitting = FittingBatches()

    @classmethod
    def on(cls, device: torch.device) -> "JpegDecoder":
        """Return a decoder on a GPU; ``UserError`` for a CPU, and where torchvision has no nvJPEG."""
        require_decoder("gpu", on_cpu=device.type == "cpu")
        probe = io.BytesIO()
        Image.new("RGB", (16, 16)).save(probe, "JPEG")
        decoder = cls(device)
        try:
            decoder.decode([probe.getvalue()])
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"--decoder gpu: torchvision cannot decode JPEG on {device} ({reason}): "
                "use --decoder pillow"
            ) from error
        return decoder

    def read(self, images: ImageSet, positions: np.ndarray) -> tuple[dict[int, str], Tensor]:
        """Read a batch of images in files, which have one size once they are resized.

        Returns notes by position, and (m, height, width, 3) uint8 on the device, with its work done.
        """
        store = images.store
        contents = [colour_jpeg(store.paths[position]) for position in positions]
        decodable = [content for content in contents if content is not None]
        # The device's decoder writes to memory without waiting for work on this stream: it must be idle.
        with self._decoding, self._on_stream():
            decoded = iter(self._decoded(decodable, store.resize))
            notes, levels = {}, []
            for position, content in zip(positions, contents, strict=True):
                image = None if content is None else next(decoded)
                if image is None:
                    pixels, note = images.read(position)
                    notes[int(position)] = ", ".join(filter(None, [note, BY_PILLOW]))
                    image = torch.tensor(pixels, device=self.device).permute(2, 0, 1)
                levels.append(image)
            batch = torch.stack(levels).permute(0, 2, 3, 1)
            if self._stream is not None:
                self._stream.synchronize()
        return notes, batch

    def decode(self, contents: Sequence[bytes]) -> list[Tensor]:
        """Decode JPEG files to (3, height, width) uint8 on the device.

        Raises ``RuntimeError`` if one of them cannot be decoded, and ``torch.OutOfMemoryError``.
        """
        encoded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
        try:
            return decode_jpeg(encoded, ImageReadMode.RGB, self.device)
        except RuntimeError as error:
            if "out of memory" in str(error):  # torchvision raises its own error for every cause
                raise torch.OutOfMemoryError(str(error)) from error
            raise

    def _decoded(self, contents: Sequence[bytes], resize: int) -> list[Tensor | None]:
        """Return (3, height, width) uint8 of each file, None for those that the device cannot decode."""

        def work(rows: slice) -> list[Tensor | None]:
            try:
                images = self.decode(contents[rows])
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                images = [self._decoded_alone(content) for content in contents[rows]]
            return [image if image is None else resized(image, resize) for image in images]

        return [image for images in self._fitting.run(work, len(contents)) for image in images]

    def _decoded_alone(self, content: bytes) -> Tensor | None:
        try:
            return self.decode([content])[0]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return None

    def _on_stream(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def resized(image: Tensor, side: int) -> Tensor:
    """Resize ``image`` (3, height, width) uint8 to a square; 0 keeps the native size.

    Bicubic with antialiasing as Pillow does it: one axis after the other, with whole levels in between.
    Pillow chooses which axis is first; its choice is repeated here, so that levels differ by rounding.
    """
    height, width = image.shape[1:]
    if side == 0 or height == width == side:
        return image
    first = (side, width) if height > max(side, 2 * width - side) else (height, side)
    levels = image[None].float()
    for size in (first, (side, side)):
        levels = interpolate(levels, size, mode="bicubic", antialias=True).round_().clamp_(0, 255)
    return levels[0].to(torch.uint8)
