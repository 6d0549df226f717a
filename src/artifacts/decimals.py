"""Shortest decimals of many float32 numbers at once."""

from functools import cache

import numpy as np

_LOWEST, _HIGHEST = 1e-3, 1e4
"""Sizes between which, and at zero, numbers are formatted together; others are rare among scores."""
_DIGITS = 9
"""Significant digits with which every float32 reads back."""
_PLACES = 12
"""Decimal places that hold nine digits of the smallest size, in three groups of four."""
_GROUP = 10_000
_TEXT = np.dtype([("sign", "S1"), ("whole", "S5"), ("places", "S4", _PLACES // 4)])


def shortest_decimals(numbers: np.ndarray) -> np.ndarray:
    """Return the decimals of ``numbers`` (n,) float32 as byte strings (n,) with zero bytes in them.

    Without the zero bytes they are the text of ``numbers.astype("S")``, in a quarter of its time: the
    fewest digits that read back as the same float32 and, among decimals with so many, the closest.
    """
    size = np.abs(numbers)
    together = (size < _HIGHEST) & ((size >= _LOWEST) | (size == 0))
    whole, *groups = _divided(np.where(together, size, 0))
    cells = np.empty(len(numbers), _TEXT)
    cells["sign"] = np.where(np.signbit(numbers), b"-", b"")
    cells["whole"] = _whole_parts()[whole]
    is_last = np.ones(len(numbers), bool)
    for at in reversed(range(len(groups))):
        cells["places"][:, at] = _places(alone=at == 0)[groups[at] + _GROUP * is_last]
        is_last &= groups[at] == 0
    text = cells.view(f"S{_TEXT.itemsize}")
    text[~together] = numbers[~together].astype("S")
    return text


def _divided(size: np.ndarray) -> list[np.ndarray]:
    """Divide the shortest decimals of ``size`` (n,) into whole parts and groups of four decimal places.

    Products with powers of ten are exact: 24 bits times 5^11 fit into the 53 bits of a float64. No
    decimal of six to eight digits lies midway between two float32, or so close that its float64 does.
    """
    exact = size.astype(np.float64)
    places = _DIGITS - 1 - np.floor(np.log10(np.clip(exact, _LOWEST, None))).astype(np.int64)
    scale = (10.0 ** np.arange(_PLACES + 1))[places]
    digits = np.rint(exact * scale)
    for left_out in (10.0, 100.0, 1000.0):
        coarse = scale / left_out
        fewer = np.rint(exact * coarse)
        reads_back = (fewer / coarse).astype(np.float32) == size
        digits = np.where(reads_back, fewer * left_out, digits)
    units = digits.astype(np.int64) * (10 ** np.arange(_PLACES + 1))[_PLACES - places]
    groups = []
    for _ in range(_PLACES // 4):
        units, group = np.divmod(units, _GROUP)
        groups.append(group)
    return [units, *reversed(groups)]


@cache
def _whole_parts() -> np.ndarray:
    return np.strings.add(np.arange(_GROUP).astype("S4"), b".")


@cache
def _places(*, alone: bool) -> np.ndarray:
    """Return texts of the groups 0 ... 9999 within a number, then at its end, without closing zeros.

    The group at the end may stand ``alone`` behind the point, where 0 is "0".
    """
    within = np.strings.zfill(np.arange(_GROUP).astype("S4"), 4)
    ending = np.strings.rstrip(within, b"0")
    ending[0] = b"0" if alone else b""
    return np.concatenate([within, ending])
