"""Visible attributes of a product, and the canvas on which its picture is drawn."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

OVERSAMPLING = 4
"""Factor by which pictures are drawn larger and then reduced, which smooths all edges."""
PATTERNS = ("plain", "stripes", "checks", "dots")
BACKDROPS = ("paper", "wood", "cloth", "tiles")

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """Visible attributes of a product of any kind and of its picture.

    Colours are (hue, saturation, value), each in [0, 1].
    """

    colour: tuple[float, float, float]
    accent: tuple[float, float, float]
    pattern: str
    pattern_scale: float
    pattern_angle: float
    """Angle in degrees."""
    background: tuple[float, float, float]
    rotation: float
    """Clockwise rotation in degrees."""
    scale: float
    shift: Point
    flipped: bool
    light: float
    """Direction of the light source in degrees."""
    exposure: float
    contrast: float
    """Contrast, 1 for full; lower values make a hazy picture."""
    backdrop: str
    grain: float
    """Standard deviation of the sensor noise, in grey levels."""

    @property
    def darkness(self) -> float:
        """Darkness of the colour: 1 for black, 0 for white."""
        return 1 - float(np.dot(colorsys.hsv_to_rgb(*self.colour), (0.3, 0.59, 0.11)))

    @property
    def patterned(self) -> bool:
        return self.pattern != "plain"


def random_look(random: np.random.Generator) -> Look:
    """Draw the attributes of one product and of its picture, independently of its kind."""
    neutral = random.random() < 0.22
    colour = (
        random.random(),
        random.uniform(0, 0.12) if neutral else random.uniform(0.35, 0.85),
        random.choice([0.16, 0.45, 0.9]) if neutral else random.uniform(0.35, 0.95),
    )
    pale = random.random() < 0.75
    background = (
        random.random(),
        random.uniform(0, 0.07) if pale else random.uniform(0.1, 0.35),
        random.uniform(0.88, 1.0) if pale else random.uniform(0.55, 0.85),
    )
    if abs(_luminance(colour) - _luminance(background)) < 0.16:
        # A product must stand out from its background, so the background becomes darker.
        background = (*background[:2], background[2] - 0.35)
    lighter = colour[2] < 0.55
    accent = (
        (colour[0] + random.uniform(0.3, 0.7)) % 1,
        random.uniform(0.05, 0.7),
        random.uniform(0.75, 1.0) if lighter else random.uniform(0.12, 0.4),
    )
    return Look(
        colour=tuple(float(part) for part in colour),
        accent=accent,
        pattern=str(random.choice(PATTERNS, p=(0.52, 0.2, 0.14, 0.14))),
        pattern_scale=random.uniform(0.09, 0.17),
        pattern_angle=float(random.choice([0, 90, 45, -45])) + random.normal(0, 3),
        background=background,
        rotation=random.normal(0, 8),
        scale=random.uniform(0.72, 1.04),
        shift=(random.normal(0, 0.03), random.normal(0, 0.03)),
        flipped=bool(random.random() < 0.5),
        light=random.uniform(-150, -30),
        exposure=random.uniform(0.8, 1.06),
        contrast=random.uniform(0.5, 0.95),
        backdrop=str(random.choice(BACKDROPS, p=(0.4, 0.2, 0.2, 0.2))),
        grain=random.uniform(1, 5),
    )


class Canvas:
    """Drawing surface for shapes in unit coordinates ((0, 0) top left), which a ``Look`` places.

    Shapes are drawn on a transparent layer; ``photograph`` adds backdrop, shadow, light and noise.
    """

    def __init__(self, look: Look, size: int) -> None:
        self.look = look
        self.size = size
        self.side = size * OVERSAMPLING
        self.layer = Image.new("RGBA", (self.side, self.side), (0, 0, 0, 0))
        self.pen = ImageDraw.Draw(self.layer)
        self.fabric = _fabric(look, self.side)

    def shape(
        self,
        points: Sequence[Point],
        colour: Colour | None = None,
        *,
        smooth: bool = True,
        texture: bool = False,
        edge: float = 0.0,
    ) -> None:
        """Fill a closed outline with ``colour`` or, if ``texture`` is true, with the product's fabric.

        ``smooth`` bends the outline through the points; ``edge`` is the width of a darker seam.
        """
        outline = self._place(smooth_outline(points) if smooth else points)
        if texture:
            mask = Image.new("L", self.layer.size)
            ImageDraw.Draw(mask).polygon(outline, fill=255)
            self.layer.paste(self.fabric, mask=mask)
            colour = rgb(self.look.colour)
        else:
            colour = colour or rgb(self.look.colour)
            self.pen.polygon(outline, fill=colour)
        if edge:
            self._stroke([*outline, outline[0]], shaded(colour, 0.68), edge)

    def line(
        self, points: Sequence[Point], colour: Colour, width: float, *, smooth: bool = True
    ) -> None:
        """Draw an open curve of ``width`` (a share of the picture's side) with round ends."""
        curve = smooth_curve(points) if smooth and len(points) > 2 else points
        self._stroke(self._place(curve), colour, width)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        self.shape(ellipse(centre, radius, radius), colour, smooth=False)

    def photograph(self, random: np.random.Generator) -> Image.Image:
        """Return the finished (size, size) RGB picture."""
        alpha = self.layer.getchannel("A")
        blurred = alpha.filter(ImageFilter.GaussianBlur(self.side * 0.035))
        picture = _backdrop(self.look, self.side, random)
        shadow = ImageChops.offset(blurred, 0, int(self.side * 0.03)).point(lambda a: a * 0.38)
        picture.paste((25, 22, 28), mask=shadow)
        # Darker edges make a shape look round.
        relief = 0.62 + 0.42 * np.asarray(blurred, np.float32) / 255
        light = relief * _gradient(self.side, self.look.light, 0.14)
        pixels = np.asarray(self.layer.convert("RGB"), np.float32) * light[:, :, None]
        lit = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        picture.paste(lit, mask=alpha)
        picture = picture.resize((self.size, self.size), Image.Resampling.LANCZOS)
        noise = random.normal(0, self.look.grain, (self.size, self.size, 3))
        exposed = np.asarray(picture, np.float32) * self.look.exposure
        haze = 165 + self.look.contrast * (exposed - 165) + noise
        return Image.fromarray(np.clip(np.rint(haze), 0, 255).astype(np.uint8))

    def _place(self, points: Sequence[Point]) -> list[Point]:
        """Convert unit coordinates to pixels: mirror, rotate, scale and shift about the centre."""
        look = self.look
        offset = np.asarray(points, np.float64) - 0.5
        if look.flipped:
            offset[:, 0] *= -1
        turn = np.deg2rad(look.rotation)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        placed = (offset @ rotation) * look.scale + 0.5 + np.asarray(look.shift)
        return [tuple(point) for point in (placed * self.side).tolist()]

    def _stroke(self, pixels: list[Point], colour: Colour, width: float) -> None:
        thick = max(1, round(width * self.look.scale * self.side))
        self.pen.line(pixels, fill=colour, width=thick, joint="curve")
        if thick > 2:
            radius = thick / 2
            for x, y in (pixels[0], pixels[-1]):
                self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def rgb(colour: tuple[float, float, float]) -> Colour:
    """Convert (hue, saturation, value) in [0, 1] to grey levels of red, green and blue."""
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(*colour))
    return red, green, blue


def shaded(colour: Colour, factor: float) -> Colour:
    """Darken (``factor`` < 1) or lighten a colour."""
    red, green, blue = (min(255, round(part * factor)) for part in colour)
    return red, green, blue


def ellipse(centre: Point, width: float, height: float, n: int = 40) -> list[Point]:
    """Return the outline of an ellipse with half axes ``width`` and ``height``."""
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x = centre[0] + width * np.cos(turn)
    y = centre[1] + height * np.sin(turn)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def smooth_curve(points: Sequence[Point], per_span: int = 8) -> list[Point]:
    """Return an open Catmull-Rom spline through ``points``."""
    return _spline([points[0], *points, points[-1]], per_span)


def smooth_outline(points: Sequence[Point], per_span: int = 8) -> list[Point]:
    """Return a closed Catmull-Rom spline through ``points``."""
    return _spline([points[-1], *points, points[0], points[1]], per_span)


def _spline(points: Sequence[Point], per_span: int) -> list[Point]:
    control = np.asarray(points, np.float64)
    before, start, end, after = control[:-3], control[1:-2], control[2:-1], control[3:]
    t = np.linspace(0, 1, per_span, endpoint=False)[None, :, None]
    before, start, end, after = (part[:, None, :] for part in (before, start, end, after))
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return [tuple(point) for point in [*curve.reshape(-1, 2).tolist(), control[-2].tolist()]]


def _luminance(colour: tuple[float, float, float]) -> float:
    return float(np.dot(colorsys.hsv_to_rgb(*colour), (0.3, 0.59, 0.11)))


def _gradient(side: int, degrees: float, strength: float) -> np.ndarray:
    """Return brightness (side, side) float32 around 1, growing towards the direction ``degrees``."""
    along, _ = _axes(side, degrees, period=0.5)
    return 1 + strength * (along - along.mean())


def _axes(side: int, degrees: float, period: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return two (side, side) float32 coordinates, rotated by ``degrees``, in units of ``period``."""
    axis = np.linspace(0, 1 / period, side, dtype=np.float32)
    cosine, sine = np.float32(np.cos(np.deg2rad(degrees))), np.float32(np.sin(np.deg2rad(degrees)))
    along = cosine * axis[None, :] + sine * axis[:, None]
    across = cosine * axis[:, None] - sine * axis[None, :]
    return along, across


def _backdrop(look: Look, side: int, random: np.random.Generator) -> Image.Image:
    """Draw the surface behind the product: the background colour with the grain of a material."""
    along, across = _axes(side, random.uniform(0, 180))
    phase = random.uniform(0, 2 * np.pi)
    if look.backdrop == "wood":
        bend = 0.02 * np.sin(2 * np.pi * along + phase)
        grain = np.sin(70 * (across + bend) + 3 * np.sin(17 * across)) + 2 * (across * 4 % 1 < 0.05)
    elif look.backdrop == "cloth":
        grain = np.sin(110 * along + phase) * np.sin(110 * across) + np.sin(5 * along + phase)
    elif look.backdrop == "tiles":
        grain = 3.0 * ((along * 3.5 % 1 < 0.06) | (across * 3.5 % 1 < 0.06)) + np.sin(4 * across)
    else:
        grain = np.sin(3 * along + phase)
    shade = _gradient(side, look.light, 0.06) * (1 - 0.05 * grain)
    lit = np.array(rgb(look.background), np.float32) * shade[:, :, None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _fabric(look: Look, side: int) -> Image.Image:
    """Draw the product's material, (side, side): its colour with a pattern in the accent colour."""
    base, accent = np.array(rgb(look.colour)), np.array(rgb(look.accent))
    if not look.patterned:
        return Image.new("RGB", (side, side), rgb(look.colour))
    along, across = _axes(side, look.pattern_angle, period=look.pattern_scale)
    if look.pattern == "stripes":
        share = (along % 1 < 0.42).astype(np.float32)
    elif look.pattern == "checks":
        share = ((along % 1 < 0.5).astype(np.float32) + (across % 1 < 0.5)) / 2
    else:
        staggered = along + 0.5 * (np.floor(across) % 2)
        share = (np.hypot(staggered % 1 - 0.5, across % 1 - 0.5) < 0.3).astype(np.float32)
    mixed = base + share[:, :, None] * (accent - base)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))
