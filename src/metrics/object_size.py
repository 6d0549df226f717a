"""How much of a product photo is product."""

import numpy as np

FRAME = 0.04
"""Width of the frame that shows the background, as a part of the picture's side."""
TOLERANCE = 24
"""Grey levels by which a channel of a pixel differs from the background where it is the object's: more
than shadows on a white table and the noise of JPEG do."""


def object_size(images: np.ndarray) -> np.ndarray:
    """Share of the pixels of each image that are unlike its background, (n,) float64 in [0, 1].

    ``images`` (n, height, width, 3) uint8. The background's colour is the median of the frame, channel
    by channel, so that an object may cut the frame as long as it covers less than half of it. Of a
    picture without a plain background this measures how busy it is.
    """
    height, width = images.shape[1:3]
    rows, columns = (max(1, round(FRAME * side)) for side in (height, width))
    frame = np.ones((height, width), bool)
    frame[rows : height - rows, columns : width - columns] = False
    background = np.median(images[:, frame], axis=1)
    difference = np.abs(images - background[:, None, None, :].astype(np.float32)).max(axis=3)
    return (difference > TOLERANCE).mean(axis=(1, 2))
