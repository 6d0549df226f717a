"""Drawing functions of the eight kinds of product.

Every function draws one product on a ``Canvas``. Proportions that vary within a kind (heel height, sleeve
length, number of straps, ...) come from its random generator. Coordinates are shares of the picture's
side.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from PIL import Image

from src.datasets.demo.canvas import Canvas, Look, ellipse, random_look, rgb, shaded, smooth_curve

WHITE = (244, 243, 240)
DARK = (38, 36, 40)
LEATHER = (128, 82, 50)
METAL = (198, 196, 190)
GOLD = (212, 176, 96)


def draw_sandal(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw a sandal from the side: a sole, and straps that leave most of the foot bare."""
    heel = random.uniform(0.0, 0.17)
    thick = random.uniform(0.05, 0.085)
    strap = random.uniform(0.045, 0.065)
    sole = LEATHER if random.random() < 0.6 else DARK
    fabric = rgb(canvas.look.colour)
    inside = shaded(fabric, 0.5)

    # A sandal is open, so the far side of the ankle strap and the inside of toe bands are visible.
    with_ankle = random.random() < 0.75
    ankle = (0.22, 0.44 - 0.8 * heel)
    if with_ankle:
        canvas.line(ellipse(ankle, 0.135, 0.05)[20:], inside, strap * 0.8)
    bands = int(random.integers(1, 4))
    span = 0.3 / bands
    toes = [0.56 + span * band for band in range(bands)]
    for start in toes:
        canvas.shape(ellipse((start + span * 0.2, 0.6), span * 0.4, 0.07), inside)

    top = [(0.04, 0.68 - heel), (0.22, 0.7 - heel), (0.48, 0.73 - heel * 0.25), (0.74, 0.745)]
    top += [(0.96, 0.71)]
    bottom = [(0.97, 0.71 + 0.8 * thick), (0.74, 0.75 + thick), (0.46, 0.74 + thick)]
    if random.random() < 0.5:  # a wedge fills the space under the heel
        bottom += [(0.06, 0.74 + thick)]
    else:
        bottom += [(0.26, 0.72 - heel + thick), (0.22, 0.75 + thick), (0.07, 0.75 + thick)]
    canvas.shape([*smooth_curve(top), *bottom], sole, smooth=False)
    canvas.line(top, shaded(sole, 1.6), 0.028)

    for start in toes:
        end = start + span * 0.82
        band = [(start, 0.745), (start - 0.01, 0.64), (start + span * 0.25, 0.53)]
        band += [(end, 0.57), (end + span * 0.1, 0.66), (end + span * 0.14, 0.745)]
        canvas.shape(band, texture=True, edge=0.012)
    if with_ankle:
        counter = [(0.06, 0.7 - heel), (0.05, ankle[1] - 0.02), (0.12, ankle[1] + 0.03)]
        counter += [(0.17, 0.71 - heel)]
        canvas.shape(counter, texture=True, edge=0.012, smooth=False)
        canvas.line(ellipse(ankle, 0.145, 0.055)[:21], fabric, strap)
        canvas.disc((ankle[0] + 0.1, ankle[1] + 0.045), 0.032, GOLD)
        if random.random() < 0.4:  # a T-bar along the instep
            instep = [
                (0.36, ankle[1] + 0.01),
                (0.5, 0.5 - heel * 0.2),
                (toes[0] + span * 0.4, 0.55),
            ]
            canvas.line(instep, fabric, strap)


def draw_running_shoe(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw a running shoe from the side: a closed upper with laces on a thick light midsole."""
    collar = random.uniform(0.3, 0.38)
    chunk = random.uniform(0.07, 0.12)
    upper = [
        (0.09, 0.7), (0.07, 0.52), (0.08, collar), (0.16, collar + 0.03), (0.25, collar + 0.07),
        (0.36, collar + 0.01), (0.42, collar - 0.03), (0.5, collar + 0.08), (0.62, 0.53),
        (0.8, 0.57), (0.93, 0.64), (0.94, 0.72), (0.5, 0.73),
    ]  # fmt: skip
    accent = rgb(canvas.look.accent)
    canvas.shape(ellipse((0.26, collar + 0.06), 0.15, 0.05), DARK, smooth=False)
    canvas.shape(upper, texture=True, edge=0.012)
    canvas.shape(
        [(0.74, 0.58), (0.84, 0.59), (0.94, 0.66), (0.94, 0.72), (0.72, 0.72)],
        shaded(rgb(canvas.look.colour), 0.72),
    )
    canvas.shape([(0.07, 0.55), (0.2, 0.57), (0.22, 0.71), (0.08, 0.71)], accent)
    stripes = random.integers(1, 4)
    for stripe in range(stripes):
        x = 0.36 + 0.075 * stripe
        canvas.line([(x, 0.69), (x + 0.1, 0.55)], accent, 0.032)
    for lace in np.linspace(0, 1, 4):
        x, y = 0.46 + 0.17 * lace, collar + 0.07 + (0.5 - collar) * lace
        canvas.line([(x - 0.035, y + 0.045), (x + 0.04, y - 0.025)], WHITE, 0.022)
    midsole = WHITE if random.random() < 0.75 else accent
    canvas.shape(
        [
            (0.05, 0.68), (0.3, 0.7), (0.6, 0.71), (0.9, 0.69), (0.97, 0.68),
            (0.95, 0.71 + chunk), (0.6, 0.72 + chunk), (0.3, 0.72 + chunk), (0.06, 0.71 + chunk),
        ],
        midsole,
        edge=0.008,
    )  # fmt: skip
    outsole = DARK if random.random() < 0.6 else shaded(rgb(canvas.look.colour), 0.8)
    canvas.line([(0.08, 0.72 + chunk), (0.5, 0.735 + chunk), (0.92, 0.71 + chunk)], outsole, 0.035)


def draw_t_shirt(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw a T-shirt from the front: short sleeves, a neckline, sometimes a print."""
    sleeve = random.uniform(0.3, 0.42)
    width = random.uniform(0.24, 0.29)
    depth = random.uniform(0.19, 0.28)
    right = [
        (0.61, 0.13), (0.5 + width - 0.04, 0.18), (0.5 + width + 0.17, sleeve - 0.02),
        (0.5 + width + 0.06, sleeve + 0.07), (0.5 + width, 0.34), (0.5 + width, 0.88),
    ]  # fmt: skip
    left = [(1 - x, y) for x, y in reversed(right)]
    canvas.shape([*right, *left], smooth=False, texture=True, edge=0.012)
    seam = shaded(rgb(canvas.look.colour), 0.62)
    for x, y in ((0.5 + width, 0.34), (0.5 - width, 0.34)):
        canvas.line([(x, y), (0.5 + (x - 0.5) * 0.84, 0.18)], seam, 0.01)
    neckline = [(0.39, 0.13), (0.5, depth), (0.61, 0.13)]
    pointed = random.random() < 0.35
    opening = (
        neckline
        if pointed
        else [(0.39, 0.13), (0.43, depth - 0.03), (0.57, depth - 0.03), (0.61, 0.13)]
    )
    canvas.shape([*opening, (0.5, 0.15)], shaded(seam, 0.7), smooth=False)
    canvas.line(opening, seam, 0.026, smooth=not pointed)
    if not canvas.look.patterned and random.random() < 0.55:
        accent = rgb(canvas.look.accent)
        centre, radius = (0.5, 0.45), random.uniform(0.07, 0.12)
        kind = random.integers(3)
        if kind == 0:
            canvas.disc(centre, radius, accent)
        elif kind == 1:
            canvas.shape(
                [(0.5 - radius, 0.5), (0.5, 0.5 - 1.8 * radius), (0.5 + radius, 0.5)],
                accent,
                smooth=False,
            )
        else:
            canvas.line([(0.5 - radius * 1.4, 0.43), (0.5 + radius * 1.4, 0.43)], accent, 0.05)


def draw_jeans(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw jeans from the front: two legs, a waistband with a button, pockets and seams."""
    hem = random.uniform(0.075, 0.15)
    gap = random.uniform(0.01, 0.05)
    length = random.uniform(0.84, 0.95)
    waist = random.uniform(0.155, 0.185)
    hip = waist + 0.045
    right = [
        (0.5, 0.09), (0.5 + waist, 0.08), (0.5 + hip, 0.3), (0.5 + gap + 2 * hem, length),
        (0.5 + gap, length), (0.5, 0.4),
    ]  # fmt: skip
    left = [(1 - x, y) for x, y in reversed(right)]
    fabric = rgb(canvas.look.colour)
    canvas.shape([*right, *left], smooth=False, texture=True, edge=0.01)
    if random.random() < 0.6:  # washed thighs
        for side in (-1, 1):
            centre = (0.5 + side * (hip * 0.55), 0.47)
            canvas.shape(ellipse(centre, 0.04, 0.12), shaded(fabric, 1.22), smooth=False)
    seam = shaded(fabric, 0.55)
    thread = GOLD if random.random() < 0.6 else shaded(fabric, 1.5)
    canvas.shape(
        [
            (0.5 - waist, 0.08),
            (0.5 + waist, 0.08),
            (0.5 + waist + 0.01, 0.14),
            (0.5 - waist - 0.01, 0.14),
        ],
        shaded(fabric, 0.82),
        smooth=False,
    )
    canvas.line([(0.5, 0.14), (0.5, 0.4)], seam, 0.014)
    canvas.line([(0.535, 0.15), (0.535, 0.26), (0.505, 0.31)], thread, 0.009)
    canvas.disc((0.5, 0.11), 0.02, thread)
    for side in (-1, 1):
        pocket = [(0.5 + side * waist * 0.45, 0.15), (0.5 + side * waist * 0.6, 0.22)]
        canvas.line([*pocket, (0.5 + side * hip * 0.97, 0.25)], thread, 0.012)
        inner, outer = 0.5 + side * (gap + 0.012), 0.5 + side * (gap + 2 * hem - 0.012)
        canvas.line([(inner, length - 0.03), (outer, length - 0.03)], thread, 0.009)


def draw_handbag(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw a handbag from the front: a body with a flap or a zip under one or two handles."""
    top = random.uniform(0.36, 0.46)
    upper, lower = random.uniform(0.26, 0.34), random.uniform(0.34, 0.42)
    fabric = rgb(canvas.look.colour)
    handle = fabric if random.random() < 0.5 else LEATHER
    rise = random.uniform(0.08, 0.2)
    reach = random.uniform(0.14, 0.22)
    arc = [(0.5 - reach, top + 0.04), (0.5 - reach * 0.8, rise + 0.08), (0.5, rise)]
    arc += [(1 - x, y) for x, y in reversed(arc[:-1])]
    if random.random() < 0.5:  # the second handle, behind
        canvas.line([(x, y + 0.05) for x, y in arc], shaded(handle, 0.5), 0.035)
    body = [
        (0.5 - upper, top), (0.5 + upper, top), (0.5 + lower, 0.78), (0.5 + lower - 0.04, 0.86),
        (0.5 - lower + 0.04, 0.86), (0.5 - lower, 0.78),
    ]  # fmt: skip
    canvas.shape(body, smooth=False, texture=True, edge=0.014)
    metal = GOLD if random.random() < 0.6 else METAL
    if random.random() < 0.6:
        fall = random.uniform(0.56, 0.66)
        flap = [(0.5 - upper - 0.01, top - 0.01), (0.5 + upper + 0.01, top - 0.01)]
        flap += [(0.5 + upper * 0.95, fall - 0.06), (0.5, fall), (0.5 - upper * 0.95, fall - 0.06)]
        canvas.shape(flap, shaded(fabric, 0.82), smooth=False, edge=0.012)
        canvas.shape(ellipse((0.5, fall - 0.01), 0.035, 0.045), metal, smooth=False)
    else:
        canvas.line([(0.5 - upper, top + 0.03), (0.5 + upper, top + 0.03)], metal, 0.014)
        canvas.line(
            [(0.5 - lower + 0.02, 0.72), (0.5 + lower - 0.02, 0.72)], shaded(fabric, 0.6), 0.014
        )
        canvas.line(
            [(0.5 + upper * 0.8, top + 0.04), (0.5 + upper * 0.8, top + 0.11)], metal, 0.022
        )
    canvas.line(arc, handle, 0.042)
    for x in (0.5 - reach, 0.5 + reach):
        canvas.disc((x, top + 0.05), 0.024, metal)


def draw_watch(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw a watch from the front: a dial with hands between two ends of a strap."""
    radius = random.uniform(0.19, 0.26)
    strap = random.uniform(0.1, 0.14)
    square = random.random() < 0.3
    fabric = rgb(canvas.look.colour)
    for end in (0.03, 0.97):
        middle = 0.5 + (end - 0.5) * 0.4
        canvas.shape(
            [
                (0.5 - strap, middle),
                (0.5 + strap, middle),
                (0.5 + strap * 0.75, end),
                (0.5 - strap * 0.75, end),
            ],
            smooth=False,
            texture=True,
            edge=0.01,
        )
    for y in np.arange(0.77, 0.95, 0.055):
        canvas.disc((0.5, float(y)), 0.013, shaded(fabric, 0.4))
    metal = GOLD if random.random() < 0.4 else METAL
    dial = WHITE if random.random() < 0.55 else DARK
    ink = DARK if dial == WHITE else WHITE
    canvas.line([(0.5 + radius, 0.5), (0.5 + radius + 0.035, 0.5)], shaded(metal, 0.8), 0.05)
    for size, colour in ((1.0, shaded(metal, 0.75)), (0.93, metal), (0.8, dial)):
        outline = ellipse((0.5, 0.5), radius * size, radius * size)
        if square:
            half = radius * size * 0.92
            outline = [
                (0.5 + x * half, 0.5 + y * half) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            ]
        canvas.shape(outline, colour, smooth=False)
    for turn in np.arange(0, 2 * np.pi, np.pi / 6):
        x, y = float(np.sin(turn)), float(np.cos(turn))
        near, far = radius * 0.62, radius * 0.72
        canvas.line([(0.5 + near * x, 0.5 + near * y), (0.5 + far * x, 0.5 + far * y)], ink, 0.013)
    for length, width in ((0.36, 0.024), (0.56, 0.017)):
        turn = random.uniform(0, 2 * np.pi)
        tip = (0.5 + radius * length * np.sin(turn), 0.5 + radius * length * np.cos(turn))
        canvas.line([(0.5, 0.5), tip], ink, width)
    canvas.disc((0.5, 0.5), 0.018, rgb(canvas.look.accent))


def draw_dress(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw a dress from the front: a bodice on straps or sleeves, a waist, a wide skirt."""
    waist = random.uniform(0.1, 0.125)
    chest = random.uniform(0.145, 0.175)
    skirt = random.uniform(0.2, 0.36)
    hem = random.uniform(0.72, 0.95)
    waistline = random.uniform(0.38, 0.44)
    fabric = rgb(canvas.look.colour)
    sleeves = random.random() < 0.4
    if sleeves:
        for side in (-1, 1):
            sleeve = [
                (0.5 + side * 0.1, 0.12),
                (0.5 + side * 0.19, 0.15),
                (0.5 + side * 0.27, 0.29),
            ]
            sleeve += [(0.5 + side * 0.18, 0.32), (0.5 + side * chest * 0.9, 0.24)]
            canvas.shape(sleeve, texture=True, edge=0.01)
    else:
        for side in (-1, 1):
            straps = [(0.5 + side * chest * 0.7, 0.24), (0.5 + side * chest * 0.55, 0.07)]
            canvas.line(straps, shaded(fabric, 0.85), 0.028)
    neck = 0.12 if sleeves else 0.2
    right = [
        (0.5 + chest * 0.6, neck), (0.5 + chest, 0.25), (0.5 + waist, waistline),
        (0.5 + waist + (skirt - waist) * 0.62, (waistline + hem) / 2), (0.5 + skirt, hem),
        (0.5 + skirt * 0.5, hem + 0.02),
    ]  # fmt: skip
    left = [(1 - x, y) for x, y in reversed(right)]
    canvas.shape(
        [*right, (0.5, hem + 0.025), *left, (0.5, neck + 0.07)],
        smooth=False,
        texture=True,
        edge=0.01,
    )
    fold = shaded(fabric, 0.7)
    for x in np.linspace(-0.6, 0.6, random.integers(2, 6)):
        start = (0.5 + waist * float(x), waistline + 0.06)
        canvas.line([start, (0.5 + skirt * float(x), hem - 0.03)], fold, 0.01)
    belt = rgb(canvas.look.accent) if random.random() < 0.6 else fold
    canvas.line(
        [(0.5 - waist, waistline), (0.5 + waist, waistline)], belt, random.uniform(0.02, 0.05)
    )


def draw_hat(canvas: Canvas, random: np.random.Generator) -> None:
    """Draw a hat from slightly above: a crown with a band on a wide brim."""
    brim = random.uniform(0.36, 0.46)
    tilt = random.uniform(0.085, 0.13)
    crown = random.uniform(0.19, 0.24)
    height = random.uniform(0.26, 0.38)
    fabric = rgb(canvas.look.colour)
    centre, top = (0.5, 0.66), 0.64 - height
    canvas.shape(ellipse(centre, brim, tilt), texture=True, smooth=False, edge=0.012)
    canvas.shape(
        ellipse((0.5, 0.645), crown * 1.15, tilt * 0.62), shaded(fabric, 0.6), smooth=False
    )
    dent = random.uniform(0.0, 0.06)
    dome = [
        (0.5 - crown, 0.66), (0.5 - crown * 0.97, 0.5), (0.5 - crown * 0.7, top + 0.02),
        (0.5, top + dent), (0.5 + crown * 0.7, top + 0.02), (0.5 + crown * 0.97, 0.5),
        (0.5 + crown, 0.66), (0.5, 0.71),
    ]  # fmt: skip
    canvas.shape(dome, texture=True, edge=0.012)
    band = rgb(canvas.look.accent)
    curve = [(0.5 - crown * 0.97, 0.61), (0.5, 0.66), (0.5 + crown * 0.97, 0.61)]
    canvas.line(curve, band, random.uniform(0.045, 0.085))
    if random.random() < 0.4:
        canvas.disc((0.5 + crown * 0.72, 0.61), 0.04, shaded(band, 1.3))


DENIM_SHARE = 0.8


def _denim(look: Look, random: np.random.Generator) -> Look:
    """Return ``look`` with the colour of blue, grey or black denim and without a pattern."""
    hue, saturation = (
        random.uniform(0.55, 0.65),
        random.choice([0.08, 0.5, 0.75], p=(0.25, 0.35, 0.4)),
    )
    colour = (hue, float(saturation), random.uniform(0.25, 0.75))
    return replace(look, colour=colour, pattern="plain")


Drawing = Callable[[Canvas, np.random.Generator], None]

PRODUCTS: Mapping[str, Drawing] = {
    "sandal": draw_sandal,
    "running shoe": draw_running_shoe,
    "T-shirt": draw_t_shirt,
    "jeans": draw_jeans,
    "handbag": draw_handbag,
    "watch": draw_watch,
    "dress": draw_dress,
    "hat": draw_hat,
}
"""Drawing functions by label. The position is the category: 0 is the unpopular sandal, 1 the popular
running shoe."""
LABELS = tuple(PRODUCTS)


def draw_product(category: int, size: int, random: np.random.Generator) -> tuple[Image.Image, Look]:
    """Draw one product of ``category``: a (size, size) RGB picture, and its random look."""
    look = random_look(random)
    if LABELS[category] == "jeans" and random.random() < DENIM_SHARE:
        look = _denim(look, random)
    canvas = Canvas(look, size)
    PRODUCTS[LABELS[category]](canvas, random)
    return canvas.photograph(random), look
