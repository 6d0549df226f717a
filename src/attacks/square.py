"""Square: random search that reads the goal's value alone.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search",
ECCV 2020, algorithms 1 and 2 (L-inf).
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.pgd import inside, per_image

if TYPE_CHECKING:
    from src.attacks.registry import Square

_SHARE = 0.8
"""Share of the pixels that the first squares cover."""
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 queries the squares cover half as many pixels."""


def square(attack: "Square", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Return the last point, after ``attack.queries`` points of an image have been looked at.

    The search starts at vertical stripes. Each further point moves the colours of one square to the edge
    of the ball, each channel up or down as a whole; an image takes it unless its value grows.
    """
    eps, queries = attack.radius, attack.queries
    height, width = images.shape[2:]
    into_box = inside(victim.box)
    with torch.no_grad():
        points = into_box(images + eps * _signs(images, width))
        values = goal(victim(points))
        for query in range(1, queries):
            side = side_of_square(query / queries, height, width)
            inside_square = _span(images, height, side)[:, None, :, None]
            inside_square = inside_square & _span(images, width, side)[:, None, None, :]
            moved = into_box(images + eps * _signs(images, 1))
            ahead = torch.where(inside_square, moved, points)
            found = goal(victim(ahead))
            taken = found <= values
            points = torch.where(per_image(taken, images), ahead, points)
            values = torch.where(taken, found, values)
    return points


def side_of_square(spent: float, height: int, width: int) -> int:
    """Return the side in pixels of the squares once a share ``spent`` of the queries is spent."""
    share = _SHARE / 2 ** sum(10_000 * spent > after for after in _HALVINGS)
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def _signs(images: Tensor, columns: int) -> Tensor:
    """Draw -1 or 1 for each image, channel and one of ``columns``, (n, 3, 1, columns)."""
    shape = (*images.shape[:2], 1, columns)
    return 2 * torch.randint(2, shape, device=images.device, dtype=images.dtype) - 1


def _span(images: Tensor, length: int, side: int) -> Tensor:
    """Mark ``side`` neighbours at a random place of each image, (n, length) bool."""
    at = torch.arange(length, device=images.device)
    first = torch.randint(length - side + 1, (len(images), 1), device=images.device)
    return (at >= first) & (at < first + side)
