"""Flat polygons in a street of metres, shaded per pixel: the toy city's drawing surface.

x points right, y up and z ahead of the camera. Each polygon is a *surface* with a label, a colour and a texture.
Polygons are drawn from far to near into one image of surface numbers; colour and label are both looked up in it, so
that an annotation matches its picture to the pixel. As every pixel knows its surface's plane, it knows its place in the
street, and light, texture, shadow and haze follow from that (deferred shading).
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from deeplab_lib.labels import LABELS

_ID = {label.name: label.id for label in LABELS}
GROUND, SIDE, FRONT = 0, 1, 2  # which way a surface lies: flat, along the street, across it
NEAR, FAR = 1.0, 220.0  # metres
Colour = Sequence[float]  # red, green, blue, 0-255
Interval = tuple[float, float]  # from, to, in metres


def interval(a: float, b: float) -> Interval:
    """The interval between two places."""
    return (a, b) if a <= b else (b, a)


class Light(NamedTuple):
    """Time of day and weather: unit vector to the sun, light (1 = white), sky (0-255), haze in metres."""

    sun: tuple[float, float, float]
    direct: tuple[float, float, float]
    ambient: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    clouds: float
    haze: float

    def on(self, normal: Sequence[float]) -> list[float]:
        """Light that falls on a surface facing the camera side of `normal`."""
        (nx, ny, nz), (sx, sy, sz) = normal, self.sun
        facing = 0.25 + 0.75 * max(0.0, nx * sx + ny * sy + nz * sz)
        return [a + d * facing for a, d in zip(self.ambient, self.direct, strict=True)]


_WEATHER = (  # likelihood, elevation of the sun, direct, ambient, zenith, horizon, clouds, haze
    (4, (35, 60), (0.72, 0.69, 0.62), (0.40, 0.44, 0.50), (84, 138, 208), (196, 216, 236), 0.5, 190),
    (3, (40, 70), (0.16, 0.16, 0.16), (0.74, 0.76, 0.79), (172, 182, 194), (214, 219, 224), 1.0, 120),
    (2, (14, 24), (0.86, 0.66, 0.44), (0.44, 0.44, 0.50), (104, 132, 186), (246, 208, 164), 0.6, 150),
    (1, (22, 38), (0.42, 0.40, 0.36), (0.58, 0.60, 0.62), (180, 192, 204), (226, 228, 228), 0.7, 60),
)


def _make_light(rng: random.Random) -> Light:
    _, elevation, direct, ambient, zenith, horizon, clouds, haze = rng.choices(_WEATHER, [w[0] for w in _WEATHER])[0]
    height, azimuth = math.radians(rng.uniform(*elevation)), rng.uniform(0, 2 * math.pi)
    sun = (math.cos(height) * math.cos(azimuth), math.sin(height), math.cos(height) * math.sin(azimuth))
    strength = rng.uniform(0.85, 1.12)
    direct, ambient = ((strength * r, strength * g, strength * b) for r, g, b in (direct, ambient))
    return Light(sun, direct, ambient, zenith, horizon, clouds * rng.uniform(0.4, 1.2), haze * rng.uniform(0.7, 1.4))


# --- Textures: functions of the colours (3, n), the place on the surface in metres (along, up), the distance and a
# number in [0, 1) that varies from surface to surface ----------------------------------------------------------------


def _rgb(*colour: float) -> np.ndarray:
    return np.array(colour, np.float32)[:, None]


@cache
def _noise_table() -> np.ndarray:
    """A tileable 1/f noise of zero mean and unit spread, int8 in steps of 1/32."""
    size = 1024
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    spectrum = np.fft.rfft2(np.random.default_rng(0).standard_normal((size, size)))
    field = np.fft.irfft2(spectrum / np.maximum(frequency, 3) ** 1.15 * (frequency < size / 5))
    return np.clip(np.round(field / field.std() * 32), -127, 127).astype(np.int8)


@cache
def _grain() -> np.ndarray:
    """Sensor noise: a strip of unit normal values, used from a random start."""
    return np.random.default_rng(1).standard_normal(1 << 20, dtype=np.float32)


def _noise(along: np.ndarray, up: np.ndarray, metres: float) -> np.ndarray:
    """Noise that repeats every `metres`."""
    scale = 1024 / metres
    return _noise_table()[(up * scale).astype(np.int32) & 1023, (along * scale).astype(np.int32) & 1023] / np.float32(
        32
    )


def _cells(column: np.ndarray, row: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """A random number in [0, 1) for each cell of a grid."""
    key = column.astype(np.int32) * 73 + row.astype(np.int32) * 179 + (variant * 9973).astype(np.int32)
    return ((key * 40503) & 0xFFFF).astype(np.float32) / 65536


def _asphalt(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    return rgb * (1 + 0.06 * _noise(along, up * 0.5, 9) + 0.035 * np.cos(along * 3.9))


def _paving(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    column, row = along / 0.75, up / 0.75
    joint = ((column % 1 < 0.07) | (row % 1 < 0.07)) * np.exp(-z / 16)
    tone = 0.10 * (_cells(np.floor(column), np.floor(row), variant) - 0.5) * np.exp(-z / 30)
    return rgb * (1 - 0.28 * joint + tone + 0.04 * _noise(along, up, 11))


def _grass(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    tufts = _noise(along * 2, up * 0.6, 7)
    return rgb * (1 + 0.13 * tufts) + tufts * _rgb(5, 3, 0)


def _leaves(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    return rgb * (1 + 0.24 * _noise(along + 5 * variant, up, 9) + 0.08 * _noise(along, up, 2.3))


def _plaster(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    return rgb * (1 + 0.05 * _noise(along, up, 14))


def _brick(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    row = up / 0.27
    column = along / 0.72 + 0.5 * (np.floor(row) % 2)
    joint = ((row % 1 < 0.17) | (column % 1 < 0.08)) * np.exp(-z / 45)
    tone = 0.34 * (_cells(np.floor(column), np.floor(row), variant) - 0.5)
    rgb = rgb * (1 + tone + 0.05 * _noise(along, up, 12))
    return rgb + joint * 0.6 * (_rgb(176, 168, 158) - rgb)


def _concrete(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    joint = (along / 2.4 % 1 < 0.05) | (up / 0.8 % 1 < 0.07)
    stain = np.clip(_noise(along, up * 0.2, 8), 0, 2)
    return rgb * (1 - 0.34 * joint - 0.07 * stain)


def _slats(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """A fence: upright slats, two rails, and the shade behind them in the gaps."""
    rail = (np.abs(up - 0.35) < 0.09) | (np.abs(up - 1.1) < 0.09)
    gap = (along / (0.42 + 0.3 * variant) % 1 > 0.58) & ~rail
    return np.where(gap, _rgb(38, 50, 36) + 0.12 * rgb, rgb * (1 + 0.05 * _noise(along, up, 9)))


def _mesh(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """A fence of wire mesh between posts: see-through, hence darker."""
    wire = ((along + up) / 0.34 % 1 < 0.24) | ((along - up) / 0.34 % 1 < 0.24) | (along / 2.2 % 1 < 0.07)
    return np.where(wire, rgb, _rgb(52, 66, 50) + 0.22 * rgb)


def _facade(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """Shop windows below, rows of windows above; their glass mirrors the sky, or there is light inside."""
    column, row = along / (2.1 + 2.2 * variant), up / 3.1
    height, floor = row % 1, np.floor(row)
    shop = floor < 1
    wide, high = np.where(shop, 0.40, 0.20 + 0.16 * (variant * 7 % 1)), np.where(shop, 0.36, 0.27)
    inside = np.maximum(np.abs(column % 1 - 0.5) / wide, np.abs(height - 0.54) / high)
    ledge = (height < 0.05) & (variant * 13 % 1 > 0.4)
    rgb = rgb * (1 + 0.05 * _noise(along, up, 16) - 0.18 * ledge)
    mirror = _cells(np.floor(column), floor, variant)
    glass = _rgb(46, 56, 70) + mirror**3 * _rgb(83, 92, 101) + (mirror > 0.93) * _rgb(70, 42, 0)
    return np.where(inside < 0.86, glass, np.where(inside < 1, np.minimum(rgb * 1.22, 235), rgb))


def _tiles(rgb: np.ndarray, along: np.ndarray, up: np.ndarray, z: np.ndarray, variant: np.ndarray) -> np.ndarray:
    return rgb * (1 - 0.16 * (up / 0.5 % 1 < 0.25) + 0.06 * _noise(along, up, 10))


_DRAWN = (_asphalt, _paving, _grass, _leaves, _plaster, _brick, _concrete, _slats, _mesh, _facade, _tiles)
_TEXTURES: dict[str, Callable[..., np.ndarray] | None] = {"plain": None} | {f.__name__[1:]: f for f in _DRAWN}
_TEXTURE_NUMBER = {name: number for number, name in enumerate(_TEXTURES)}


# --- Canvas ----------------------------------------------------------------------------------------------------------


class Canvas:
    """Collects polygons in metres as surface numbers per pixel, then shades them.

    The picture is two units wide and one high at any pixel size: other proportions than 2:1 stretch it.
    """

    def __init__(self, size: Sequence[int], rng: random.Random) -> None:
        self.height, self.width = size
        self.rng = rng
        self.light = _make_light(rng)
        self.centre = (rng.uniform(0.92, 1.08), rng.uniform(0.40, 0.45))
        self.focal, self.eye = rng.uniform(1.75, 2.0), rng.uniform(1.35, 1.6)
        self.image = Image.new("I", (self.width, self.height), 0)
        self.draw = ImageDraw.Draw(self.image)
        self.shade = Image.new("L", (512, 256), 0)
        self.shade_draw = ImageDraw.Draw(self.shade)
        # Of every surface, by its number; 0 is the sky.
        self.labels, self.textures = [_ID["sky"]], [_TEXTURE_NUMBER["plain"]]
        self.facing, self.variants = [FRONT], [0.0]
        self.colours, self.planes = [(255.0, 255.0, 255.0)], [(0.0, 0.0, -1.0, -FAR)]

    def project(self, point: Sequence[float], width: int, height: int) -> tuple[float, float]:
        """Pixel coordinates, in a picture of width x height, of a point in metres."""
        x, y, z = point
        scale = self.focal / (z if z > NEAR else NEAR)
        return (
            (self.centre[0] + x * scale) * width / 2 - 0.5,
            (self.centre[1] + (self.eye - y) * scale) * height - 0.5,
        )

    def paint(
        self,
        points: Sequence[Sequence[float]],
        label: str,
        colour: Colour,
        texture: str = "plain",
        glow: bool = False,
        variant: float | None = None,
    ) -> None:
        """Draw one flat polygon; `glow` keeps its colour in any light."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[:3]
        ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = math.sqrt(nx * nx + ny * ny + nz * nz) or 1.0
        to_eye = -(nx * ax + ny * (ay - self.eye) + nz * az)
        length = length if to_eye >= 0 else -length
        nx, ny, nz = nx / length, ny / length, nz / length
        light = (1, 1, 1) if glow else self.light.on((nx, ny, nz))
        number = len(self.labels)
        self.labels.append(_ID[label])
        self.colours.append((colour[0] * light[0], colour[1] * light[1], colour[2] * light[2]))
        self.textures.append(_TEXTURE_NUMBER[texture])
        self.planes.append((nx / self.focal, -ny / self.focal, nz, nx * ax + ny * (ay - self.eye) + nz * az))
        self.facing.append(GROUND if abs(ny) > 0.8 else SIDE if abs(nx) > abs(nz) else FRONT)
        self.variants.append(self.rng.random() if variant is None else variant)
        self.draw.polygon([self.project(point, self.width, self.height) for point in points], fill=number)

    # `surface` and `options` are what `paint` takes: label and colour, perhaps texture, glow and variant.

    def front(self, x0: float, x1: float, y0: float, y1: float, z: float, *surface: Any, **options: Any) -> None:
        """A rectangle across the street at distance z."""
        self.paint([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], *surface, **options)

    def side(self, x: float, y0: float, y1: float, z0: float, z1: float, *surface: Any, **options: Any) -> None:
        """A rectangle along the street, upright, at x."""
        self.paint([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)], *surface, **options)

    def ground(self, x0: float, x1: float, z0: float, z1: float, *surface: Any, y: float = 0.0, **options: Any) -> None:
        """A level rectangle at height y."""
        self.paint([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], *surface, **options)

    def disc(
        self,
        x: float,
        y: float,
        z: float,
        radius: float,
        *surface: Any,
        facing: int = FRONT,
        corners: int = 12,
        **options: Any,
    ) -> None:
        """A disc around (x, y, z), across the street (`FRONT`) or along it (`SIDE`)."""
        turn = [2 * math.pi * k / corners for k in range(corners)]
        if facing == FRONT:
            points = [(x + radius * math.cos(a), y + radius * math.sin(a), z) for a in turn]
        else:
            points = [(x, y + radius * math.sin(a), z + radius * math.cos(a)) for a in turn]
        self.paint(points, *surface, **options)

    def limb(
        self, x0: float, y0: float, x1: float, y1: float, z: float, thick: float, label: str, colour: Colour
    ) -> None:
        """A bar of some thickness from one point to another in the plane at distance z."""
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        dx, dy = -(y1 - y0) / length * thick / 2, (x1 - x0) / length * thick / 2
        points = [(x0 + dx, y0 + dy, z), (x1 + dx, y1 + dy, z), (x1 - dx, y1 - dy, z), (x0 - dx, y0 - dy, z)]
        self.paint(points, label, colour)

    def box(
        self,
        x: Interval,
        y: Interval,
        z: Interval,
        label: str,
        colour: Colour,
        texture: str = "plain",
        inset: tuple[float, float, float] = (0, 0, 0),
        **options: Any,
    ) -> None:
        """The visible faces of a box over the intervals x, y, z; its top is smaller by `inset` (sides, near, far)."""
        (x0, x1), (y0, y1), (z0, z1), (across, near, far) = x, y, z, inset
        variant = self.rng.random()
        surface: dict[str, Any] = {"label": label, "colour": colour, "texture": texture, "variant": variant} | options
        if y1 < self.eye:
            self.ground(x0 + across, x1 - across, z0 + near, z1 - far, y=y1, **surface)
        edge, top = (x0, x0 + across) if x0 > 0 else (x1, x1 - across)
        if x0 > 0 or x1 < 0:
            self.paint([(edge, y0, z0), (edge, y0, z1), (top, y1, z1 - far), (top, y1, z0 + near)], **surface)
        self.paint([(x0, y0, z0), (x1, y0, z0), (x1 - across, y1, z0 + near), (x0 + across, y1, z0 + near)], **surface)

    def cast(self, x: Interval, z: Interval, height: float, base: float = 0.0) -> None:
        """The shadow that a box over the intervals x, z from `base` to `height` throws on the ground."""
        sun = self.light.sun
        if self.light.direct[0] < 0.2 or z[0] > 70:  # an overcast sky throws none, and far ones are not seen
            return
        corners = [(x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1])]
        low, high = ([(a - sun[0] / sun[1] * y, b - sun[2] / sun[1] * y) for a, b in corners] for y in (base, height))
        faces = [low, high] + [[low[k], low[k - 1], high[k - 1], high[k]] for k in range(4)]
        for face in faces:
            if max(b for _, b in face) > NEAR:
                self.shade_draw.polygon([self.project((a, 0, b), 512, 256) for a, b in face], fill=255)

    def render(self) -> tuple[np.ndarray, np.ndarray]:
        """The picture uint8 `(H, W, 3)` and its label ids uint8 `(H, W)`."""
        surface = np.asarray(self.image).ravel()
        u = np.tile((np.arange(self.width, dtype=np.float32) + 0.5) / self.width * 2 - self.centre[0], self.height)
        v = np.repeat((np.arange(self.height, dtype=np.float32) + 0.5) / self.height - self.centre[1], self.width)
        a, b, c, d = (column.take(surface) for column in np.array(self.planes, np.float32).T)
        z = np.clip(d / np.minimum(a * u + b * v + c, -1e-6), NEAR, FAR)
        rgb = np.array(self.colours, np.float32).T.take(surface, axis=1)
        textures, facing = (np.array(each, np.uint8).take(surface) for each in (self.textures, self.facing))
        variants = np.array(self.variants, np.float32)
        for number, texture in enumerate(_TEXTURES.values()):
            if texture is None or number not in self.textures:
                continue
            at = np.flatnonzero(textures == number)
            distance, plane = z[at], facing[at]
            along = np.where(plane == SIDE, distance, u[at] * distance / self.focal)
            up = np.where(plane == GROUND, distance, self.eye - v[at] * distance / self.focal)
            rgb[:, at] = texture(rgb.take(at, axis=1), along, up, distance, variants.take(surface[at]))
        sky = np.flatnonzero(surface == 0)
        self._sky(rgb, sky, u, v)
        self._shadows(rgb, facing == GROUND)
        labels = np.array(self.labels, np.uint8).take(surface).reshape(self.height, self.width)
        return self._develop(rgb, z, sky), labels

    def _sky(self, rgb: np.ndarray, at: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        """A gradient from the horizon up, and clouds on a plane overhead."""
        height = np.maximum(-v[at], 0.01)
        zenith, horizon = _rgb(*self.light.zenith), _rgb(*self.light.horizon)
        colour = horizon + (1 - np.exp(-4.5 * height)) * (zenith - horizon)
        across, ahead = u[at] / (height + 0.12) * 0.5 + self.rng.uniform(0, 50), 0.5 / (height + 0.12)
        cover = np.clip(_noise(across, ahead, 12) * 0.55 + 0.1, 0, 1) * min(1.0, self.light.clouds)
        rgb[:, at] = colour + cover * (_rgb(246, 246, 248) * (sum(self.light.horizon) / 640) - colour)

    def _shadows(self, rgb: np.ndarray, on_ground: np.ndarray) -> None:
        at = np.flatnonzero(on_ground)
        shade = np.asarray(self.shade.resize((self.width, self.height), Image.Resampling.BILINEAR)).ravel()
        ambient, direct = _rgb(*self.light.ambient), _rgb(*self.light.direct) * (0.25 + 0.75 * self.light.sun[1])
        rgb[:, at] *= 1 - shade[at] / np.float32(300) * (direct / (ambient + direct))

    def _develop(self, rgb: np.ndarray, z: np.ndarray, in_sky: np.ndarray) -> np.ndarray:
        """Haze by distance, white balance and the sensor's noise."""
        clear = np.exp(-z / self.light.haze)
        clear[in_sky] = 1
        haze = _rgb(*self.light.horizon) * 0.96
        rgb = (rgb - haze) * clear
        rgb += haze
        rgb *= _rgb(*(self.rng.uniform(0.96, 1.04) for _ in range(3)))
        grain, start = _grain(), self.rng.randrange(1 << 19)
        rgb += np.resize(grain[start:], len(z)) * np.float32(self.rng.uniform(1.5, 4))
        np.clip(rgb, 0, 255, out=rgb)
        return np.ascontiguousarray(rgb.astype(np.uint8).T).reshape(self.height, self.width, 3)
