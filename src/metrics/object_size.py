"""Size of the product in a product photo."""

import numpy as np

FRAME = 0.04
"""Width of the frame that shows the background, as a part of the picture's side."""
TOLERANCE = 24
"""Grey levels by which some channel of an object's pixel must differ from the background. Shadows on
a white table and JPEG noise stay below."""


def object_size(images: np.ndarray) -> np.ndarray:
    """Return the share of pixels that differ from the background, (n,) float64 in [0, 1].

    ``images`` are (n, height, width, 3) uint8. The background's colour is the median of the frame in
    each channel, so that an object may cover up to half of the frame. For a picture without a plain
    background the share measures how busy the picture is.
    """
    height, width = images.shape[1:3]
    rows, columns = (max(1, round(FRAME * side)) for side in (height, width))
    frame = np.ones((height, width), bool)
    frame[rows : height - rows, columns : width - columns] = False
    background = np.median(images[:, frame], axis=1)
    difference = np.abs(images - background[:, None, None, :].astype(np.float32)).max(axis=3)
    return (difference > TOLERANCE).mean(axis=(1, 2))
