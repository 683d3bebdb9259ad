"""Scenes of the sprite world, drawn procedurally.

A painter is a function of the canvas coordinates and a random generator. Lengths are in widths or heights of the
canvas, so a variant of a scene is the same at every resolution.

To add a scene, write a painter and add an entry to `SCENE_TABLE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Colour = tuple[float, float, float]

# Variants of each scene; hue, brightness, horizon and details differ.
NUM_VARIANTS = 16
# Scenes are drawn at least this wide and then downsampled, which smooths their edges.
_DRAWING_WIDTH = 192
# Below this exponent, exp underflows to 0 in float32.
_LOWEST_EXPONENT = -104


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Coordinates of the pixel centres: x in [0, 1] across; y down, in widths; v in [0, 1] down."""

    x: FloatArray  # [H, W]
    y: FloatArray  # [H, W]
    v: FloatArray  # [H, W]


Painter = Callable[[Canvas, np.random.Generator], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A background.

    Attributes:
        phrases: synonyms for captions, each with its preposition.
        painter: draws it as [H, W, 3] in [0, 1]; None for a plain one.
        colour: red, green and blue from 0 to 255 of a plain one.
    """

    phrases: tuple[str, ...]
    painter: Painter | None = None
    colour: Colour = (0, 0, 0)


def _colour(red: float, green: float, blue: float) -> FloatArray:
    return np.array([red, green, blue], dtype=np.float32) / 255.0


def _mix(below: FloatArray, above: FloatArray, weight: FloatArray) -> FloatArray:
    """Blend from `below` at weight 0 to `above` at weight 1; colours [3] or images [H, W, 3]."""
    return below + (above - below) * weight[..., None]


def _gradient(canvas: Canvas, top: Colour, bottom: Colour) -> FloatArray:
    return _mix(_colour(*top), _colour(*bottom), canvas.v)


def _blob(canvas: Canvas, x: float, y: float, width: float, height: float) -> FloatArray:
    """Return a soft ellipse: 1 at its centre, about 0.5 at the semi-axes, 0 far outside."""
    exponent = -0.7 * (((canvas.x[:1] - x) / width) ** 2 + ((canvas.y[:, :1] - y) / height) ** 2)
    # For small blobs most pixels are exactly 0 in float32. Skip them: exp is slowest near underflow.
    seen = exponent > _LOWEST_EXPONENT
    return np.exp(exponent, out=np.zeros_like(exponent), where=seen).astype(np.float32)


def _disc(canvas: Canvas, x: float, y: float, radius: float) -> FloatArray:
    inside = (canvas.x - x) ** 2 + (canvas.y - y) ** 2 < radius**2
    return inside.astype(np.float32)


def _stars(canvas: Canvas, rng: np.random.Generator, number: int, lowest: float) -> FloatArray:
    light = np.zeros_like(canvas.x)
    for x, y, size in zip(
        rng.random(number), rng.random(number) * lowest, rng.uniform(0.008, 0.016, number), strict=True
    ):
        light = np.maximum(light, _blob(canvas, x, y, size, size))
    return light


def _clouds(canvas: Canvas, rng: np.random.Generator, number: int) -> FloatArray:
    cover = np.zeros_like(canvas.x)
    for index in range(number):
        x, y = (index + rng.uniform(0.2, 0.8)) / number, rng.uniform(0.05, 0.9)
        for offset in (-0.08, 0.0, 0.08):
            puff = _blob(canvas, x + offset, y + rng.uniform(-0.02, 0.02), 0.08, rng.uniform(0.03, 0.05))
            cover = np.maximum(cover, puff)
    return cover


def _blue_sky(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    sky = _gradient(canvas, (70, 150, 235), (150, 205, 248))
    return _mix(sky, _colour(250, 252, 255), 0.85 * _clouds(canvas, rng, 3))


def _sunset(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    horizon = rng.uniform(0.74, 0.82)
    sky = _mix(_colour(110, 60, 130), _colour(255, 165, 80), np.clip(canvas.v / horizon, 0, 1))
    glow = _blob(canvas, rng.uniform(0.25, 0.75), horizon * float(canvas.y.max()), 0.3, 0.22)
    sky = _mix(sky, _colour(255, 220, 130), glow * 0.9)
    return _mix(sky, _colour(70, 35, 60), (canvas.v > horizon).astype(np.float32))


def _night_sky(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    sky = _gradient(canvas, (12, 18, 60), (38, 52, 112))
    return _mix(sky, _colour(250, 248, 220), _stars(canvas, rng, 18, float(canvas.y.max())))


def _green_meadow(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    horizon = rng.uniform(0.26, 0.36)
    hill = horizon + 0.03 * np.sin(2 * np.pi * (canvas.x * rng.uniform(0.8, 1.4) + rng.random()))
    grass = _mix(_colour(150, 205, 95), _colour(80, 150, 55), np.clip((canvas.v - hill) / 0.7, 0, 1))
    blades = 0.06 * np.sin(2 * np.pi * (canvas.x * 4 + 0.8 * np.sin(canvas.y * 14)))
    grass = grass * (1 + blades[..., None] * (canvas.v > hill)[..., None])
    return _mix(_colour(190, 228, 250), grass, (canvas.v > hill).astype(np.float32))


def _sandy_beach(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    horizon, shore = rng.uniform(0.22, 0.30), rng.uniform(0.46, 0.56)
    wave = shore + 0.025 * np.sin(2 * np.pi * (1.5 * canvas.x + rng.random()))
    picture = _mix(_colour(165, 220, 245), _colour(40, 160, 190), (canvas.v > horizon).astype(np.float32))
    picture = _mix(picture, _colour(250, 250, 245), (canvas.v > wave - 0.03).astype(np.float32))
    return _mix(picture, _colour(238, 214, 160), (canvas.v > wave).astype(np.float32))


def _ocean(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    horizon = rng.uniform(0.16, 0.24)
    depth = np.clip((canvas.v - horizon) / (1 - horizon), 0, 1)
    water = _mix(_colour(50, 130, 185), _colour(10, 60, 120), depth)
    crests = np.sin(2 * np.pi * (5 * np.sqrt(depth) + 0.25 * np.sin(2 * np.pi * (3 * canvas.x + rng.random()))))
    water = _mix(water, _colour(140, 200, 225), 0.5 * np.clip(crests - 0.55, 0, 1) / 0.45)
    return _mix(_colour(205, 230, 240), water, (canvas.v > horizon).astype(np.float32))


def _snowy_field(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    horizon = rng.uniform(0.30, 0.40)
    drift = horizon + 0.04 * np.sin(2 * np.pi * (canvas.x * rng.uniform(0.6, 1.2) + rng.random()))
    snow = _mix(_colour(246, 249, 253), _colour(205, 217, 233), np.clip((canvas.v - drift) / 0.7, 0, 1))
    picture = _mix(_colour(140, 158, 182), snow, (canvas.v > drift).astype(np.float32))
    flakes = _stars(canvas, rng, 16, horizon * float(canvas.y.max()))
    return _mix(picture, _colour(255, 255, 255), flakes)


def _brick_wall(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    row = canvas.y * 6 + rng.random()
    column = canvas.x * 3 + 0.5 * (np.floor(row) % 2) + rng.random()
    mortar = ((row % 1.0) < 0.15) | ((column % 1.0) < 0.08)
    shade = 0.09 * np.sin(12.9 * np.floor(row) + 78.2 * np.floor(column))
    bricks = _colour(152, 74, 58) * (1 + shade[..., None])
    return _mix(bricks.astype(np.float32), _colour(206, 194, 180), mortar.astype(np.float32))


def _forest(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    ground = rng.uniform(0.80, 0.88)
    picture = _gradient(canvas, (18, 66, 42), (46, 104, 62))
    phase = rng.random()
    trunks = np.abs(((canvas.x * 4 + phase + 0.15 * np.sin(2 * np.pi * canvas.x * 2)) % 1.0) - 0.5) < 0.13
    picture = _mix(picture, _colour(66, 44, 32), (trunks & (canvas.v < ground)).astype(np.float32))
    leaves = np.zeros_like(canvas.x)
    for x in np.arange(0.0, 1.01, 0.125):
        leaves = np.maximum(leaves, _blob(canvas, x + rng.uniform(-0.03, 0.03), rng.uniform(0, 0.16), 0.08, 0.08))
    picture = _mix(picture, _colour(24, 86, 44), np.clip(3 * leaves - 1, 0, 1))
    return _mix(picture, _colour(42, 62, 30), (canvas.v > ground).astype(np.float32))


def _desert(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    far = rng.uniform(0.34, 0.42) + 0.06 * np.sin(2 * np.pi * (canvas.x * 0.9 + rng.random()))
    near = rng.uniform(0.62, 0.70) + 0.07 * np.sin(2 * np.pi * (canvas.x * 0.7 + rng.random()))
    sky = _gradient(canvas, (245, 205, 150), (255, 232, 190))
    picture = _mix(sky, _colour(214, 140, 74), (canvas.v > far).astype(np.float32))
    return _mix(picture, _colour(184, 104, 50), (canvas.v > near).astype(np.float32))


def _city(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    picture = _gradient(canvas, (176, 186, 200), (212, 212, 210))
    houses = 5
    heights = rng.uniform(0.15, 0.5, houses + 1)
    number = np.clip((canvas.x * houses + rng.random() * 0.9).astype(np.int64), 0, houses)
    grey = np.where(number % 2 == 0, 0.30, 0.40).astype(np.float32)
    walls = grey[..., None] * np.array([0.95, 1.0, 1.15], dtype=np.float32)
    windows = ((canvas.x * houses * 2) % 1.0 > 0.5) & ((canvas.y * 8) % 1.0 > 0.55)
    walls = _mix(walls, _colour(236, 206, 110), 0.6 * windows.astype(np.float32))
    return _mix(picture, walls, (canvas.v > heights[number]).astype(np.float32))


def _checkered_floor(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    squares = np.floor(canvas.x * 4 + rng.random()) + np.floor(canvas.y * 4 + rng.random())
    return _mix(_colour(228, 224, 214), _colour(92, 96, 108), (squares % 2).astype(np.float32))


def _pink_wall(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    paper = _gradient(canvas, (244, 158, 190), (234, 138, 174))
    stripes = (canvas.x * 5 + rng.random()) % 1.0 < 0.35
    picture = _mix(paper, _colour(250, 188, 210), stripes.astype(np.float32))
    return _mix(picture, _colour(250, 240, 238), (canvas.v > rng.uniform(0.86, 0.91)).astype(np.float32))


def _outer_space(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    height = float(canvas.y.max())
    picture = np.broadcast_to(_colour(14, 6, 24), (*canvas.x.shape, 3))
    picture = _mix(
        picture, _colour(120, 40, 130), 0.8 * _blob(canvas, rng.uniform(0.1, 0.9), 0.75 * height, 0.4, 0.25)
    )
    picture = _mix(picture, _colour(255, 255, 255), _stars(canvas, rng, 14, height))
    planet = _disc(canvas, rng.uniform(0.74, 0.84), rng.uniform(0.14, 0.2) * height, 0.13)
    return _mix(picture, _colour(222, 120, 70), planet)


SCENE_TABLE: dict[str, Scene] = {
    "blue sky": Scene(
        painter=_blue_sky,
        phrases=("over a blue sky", "in a blue sky", "in front of a blue sky", "against a blue sky"),
    ),
    "sunset": Scene(painter=_sunset, phrases=("in front of a sunset", "against a sunset", "at sunset")),
    "night sky": Scene(painter=_night_sky, phrases=("in a night sky", "over a night sky", "against a night sky")),
    "green meadow": Scene(
        painter=_green_meadow, phrases=("on a green meadow", "over a green meadow", "in a green meadow")
    ),
    "sandy beach": Scene(
        painter=_sandy_beach, phrases=("on a sandy beach", "over a sandy beach", "at a sandy beach")
    ),
    "ocean": Scene(painter=_ocean, phrases=("over the ocean", "on the ocean", "in front of the ocean")),
    "snowy field": Scene(
        painter=_snowy_field, phrases=("on a snowy field", "over a snowy field", "in a snowy field")
    ),
    "brick wall": Scene(
        painter=_brick_wall, phrases=("in front of a brick wall", "against a brick wall", "on a brick wall")
    ),
    "forest": Scene(painter=_forest, phrases=("in a forest", "in front of a forest", "in the forest")),
    "desert": Scene(painter=_desert, phrases=("in a desert", "over a desert", "in the desert")),
    "city": Scene(painter=_city, phrases=("in a city", "over a city", "in front of a city")),
    "checkered floor": Scene(
        painter=_checkered_floor,
        phrases=("on a checkered floor", "over a checkered floor", "above a checkered floor"),
    ),
    "pink wall": Scene(
        painter=_pink_wall, phrases=("in front of a pink wall", "against a pink wall", "on a pink wall")
    ),
    "outer space": Scene(
        painter=_outer_space, phrases=("in outer space", "through outer space", "somewhere in outer space")
    ),
    **{
        name: Scene(
            colour=colour,
            phrases=(f"on a {name}", f"over a {name}", f"in front of a {name}", f"against a {name}"),
        )
        for name, colour in {
            "red background": (168, 36, 44),
            "yellow background": (250, 236, 140),
            "green background": (60, 138, 70),
            "teal background": (30, 140, 146),
            "blue background": (58, 92, 200),
            "purple background": (112, 64, 150),
            "pink background": (240, 130, 180),
            "gray background": (140, 140, 140),
            "white background": (246, 246, 246),
            "black background": (14, 14, 16),
        }.items()
    },
}
SCENES: tuple[str, ...] = tuple(name for name, scene in SCENE_TABLE.items() if scene.painter is not None)
PLAIN_SCENES: tuple[str, ...] = tuple(name for name in SCENE_TABLE if name not in SCENES)


def _block_mean(picture: FloatArray, factor: int) -> FloatArray:
    height, width, _ = picture.shape
    blocks = picture.reshape(height // factor, factor, width // factor, factor, 3)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def draw_scene(name: str, variant: int, height: int, width: int) -> FloatArray:
    """Return one variant of a scene as [H, W, 3] in [0, 1].

    Raises:
        ValueError: unknown name.
    """
    scene = SCENE_TABLE.get(name)
    if scene is None:
        raise ValueError(f"unknown scene {name!r}, expected one of {', '.join(SCENE_TABLE)}")
    # Seed by a checksum of the name, not by its index, so that adding a scene does not change the others.
    rng = np.random.default_rng([crc32(name.encode()), variant])
    brightness = rng.uniform(0.90, 1.06)
    tint = rng.uniform(0.96, 1.04, size=3).astype(np.float32)
    if scene.painter is None:
        picture = np.broadcast_to(_colour(*scene.colour), (height, width, 3))
    else:
        factor = max(2, -(-_DRAWING_WIDTH // width))
        down, across = np.indices((height * factor, width * factor), dtype=np.float32)
        x: FloatArray = ((across + np.float32(0.5)) / np.float32(width * factor)).astype(np.float32)
        y: FloatArray = ((down + np.float32(0.5)) / np.float32(width * factor)).astype(np.float32)
        v: FloatArray = (y * np.float32(width / height)).astype(np.float32)
        picture = _block_mean(scene.painter(Canvas(x=x, y=y, v=v), rng), factor)
    return np.clip(picture * tint * np.float32(brightness), 0.0, 1.0).astype(np.float32)
