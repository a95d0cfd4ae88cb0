"""What stands and moves in the toy city: houses, plants, street furniture, people, vehicles.

Each function draws one thing on a `Canvas`, placed by x and z in metres (see there); `side` is -1 for the left side of
the street and 1 for the right one, where x is then the distance from the middle.
"""

import math
import random
from collections.abc import Callable, Sequence

from deeplab_lib.toycity.canvas import SIDE, Canvas, Colour, Interval

PLASTER = ((196, 178, 148), (178, 152, 128), (206, 200, 188), (166, 168, 172), (192, 150, 110), (152, 140, 128))
ROOFS = ((132, 68, 52), (96, 58, 50), (74, 76, 82), (110, 86, 70))
PAINT = ((24, 26, 30), (168, 172, 178), (226, 228, 230), (38, 58, 108), (142, 24, 28), (92, 96, 102), (44, 74, 62))
CLOTHES = ((42, 48, 74), (168, 42, 46), (36, 38, 42), (62, 92, 148), (196, 176, 134), (92, 52, 96), (214, 214, 208))
SKIN = ((226, 182, 150), (196, 148, 114), (128, 86, 62), (238, 200, 172))
GREENS = ((62, 104, 40), (78, 116, 44), (48, 88, 46), (92, 122, 50), (112, 112, 44))
DARK, TYRE, GLASS = (28, 28, 32), (24, 24, 26), (44, 54, 66)


def vary(rng: random.Random, colour: Colour, spread: float = 12) -> tuple[float, ...]:
    """The colour a little lighter or darker and shifted."""
    shift = rng.uniform(-spread, spread)
    return tuple(min(250, max(8, part + shift + rng.uniform(-spread, spread) / 3)) for part in colour)


def building(canvas: Canvas, rng: random.Random, side: int, x: float, z0: float, z1: float) -> None:
    """A house along the street from z0 to z1 whose front stands at distance x on one side (-1 left, 1 right)."""
    storeys = rng.randint(2, 6)
    height = 3.1 * storeys + rng.uniform(0.3, 0.8)
    wide = (x, x + 12) if side > 0 else (-x - 12, -x)
    brick = rng.random() < 0.2
    colour = vary(rng, (150, 84, 66) if brick else rng.choice(PLASTER))
    canvas.box(wide, (0, height), (z0, z1), "building", colour, "facade")
    canvas.cast(wide, (z0, z1), height)
    trim, shop = vary(rng, (210, 204, 194), 20), vary(rng, rng.choice(CLOTHES), 20)
    edge = side * (x - 0.05)
    canvas.side(edge, 0, 0.5, z0, z1, "building", vary(rng, (112, 108, 104)), "plaster")
    if rng.random() < 0.5:
        canvas.side(edge, 2.75, 3.25, z0 + 0.5, z1 - 0.5, "building", shop)
    if rng.random() < 0.55:  # a pitched roof: its slope along the street and the gable that looks at us
        roof, rise = vary(rng, rng.choice(ROOFS)), rng.uniform(2.5, 4.5)
        eaves, ridge, back = side * (x - 0.4), side * (x + 6), side * (x + 12)
        canvas.paint(
            [(eaves, height, z0), (ridge, height + rise, z0), (back, height, z0)], "building", colour, "plaster"
        )
        slope = [(eaves, height, z0), (eaves, height, z1), (ridge, height + rise, z1), (ridge, height + rise, z0)]
        canvas.paint(slope, "building", roof, "tiles")
    else:
        canvas.side(edge, height - 0.5, height + 0.2, z0, z1, "building", trim)
        canvas.front(min(wide), max(wide), height - 0.5, height + 0.2, z0, "building", trim)


def crown(canvas: Canvas, rng: random.Random, x: float, y: float, z: float, radius: float, colour: Colour) -> None:
    """A ragged ball of leaves: darker below, lighter towards the light."""
    for size, dy, tone in ((1.0, 0.0, 0.72), (0.82, 0.22, 0.95), (0.52, 0.45, 1.2)):
        corners = 15
        reach = [radius * size * rng.uniform(0.84, 1.12) for _ in range(corners)]
        turns = [2 * math.pi * k / corners for k in range(corners)]
        shift = rng.uniform(-0.2, 0.2) * radius
        points = [
            (x + shift + r * math.cos(a), y + dy * radius + 0.9 * r * math.sin(a), z)
            for r, a in zip(reach, turns, strict=True)
        ]
        canvas.paint(points, "vegetation", tuple(tone * part for part in colour), "leaves")


def tree(canvas: Canvas, rng: random.Random, x: float, z: float, size: float = 1.0) -> None:
    radius, trunk = size * rng.uniform(1.5, 2.5), size * rng.uniform(2.0, 3.0)
    thick = 0.17 * size
    canvas.front(x - thick, x + thick, 0, trunk + radius, z, "vegetation", (84, 68, 54), "plaster")
    crown(canvas, rng, x, trunk + radius * 0.8, z, radius, vary(rng, rng.choice(GREENS)))
    canvas.cast((x - radius * 0.8, x + radius * 0.8), (z - radius * 0.6, z + radius * 0.6), trunk + radius, trunk)
    canvas.cast((x - thick, x + thick), (z - thick, z + thick), trunk)


def park(canvas: Canvas, rng: random.Random, side: int, x: float, z0: float, z1: float) -> None:
    """A hedge with trees behind it."""
    z = z1
    while z > z0:
        tree(canvas, rng, side * (x + rng.uniform(2, 5)), z, rng.uniform(1.0, 1.7))
        z -= rng.uniform(2.5, 5)
    wide = (x, x + 1.2) if side > 0 else (-x - 1.2, -x)
    canvas.box(wide, (0, rng.uniform(0.9, 1.9)), (z0, z1), "vegetation", vary(rng, rng.choice(GREENS)), "leaves")


def wall(canvas: Canvas, rng: random.Random, side: int, x: float, z0: float, z1: float) -> None:
    """A garden wall of brick or concrete with a coping."""
    height = rng.uniform(1.8, 2.6)
    if rng.random() < 0.6:
        colour, texture = vary(rng, rng.choice(((158, 78, 58), (172, 98, 66), (138, 70, 60)))), "brick"
    else:
        colour, texture = vary(rng, (170, 168, 162)), "concrete"
    wide = (x, x + 0.5) if side > 0 else (-x - 0.5, -x)
    canvas.box(wide, (0, height), (z0, z1), "wall", colour, texture)
    canvas.side(side * (x - 0.08), height - 0.2, height, z0, z1, "wall", (196, 190, 180))
    canvas.cast(wide, (z0, z1), height)


def fence(canvas: Canvas, rng: random.Random, side: int, x: float, z0: float, z1: float) -> None:
    """A fence of slats or of wire mesh."""
    mesh = rng.random() < 0.3
    height = rng.uniform(1.5, 2.1)
    colours = (
        ((96, 104, 100), (70, 112, 88)) if mesh else ((226, 224, 216), (172, 122, 72), (104, 78, 56), (92, 128, 96))
    )
    texture, colour = "mesh" if mesh else "slats", vary(rng, rng.choice(colours))
    canvas.side(side * x, 0, height, z0, z1, "fence", colour, texture)
    wide = (x, x + 5) if side > 0 else (-x - 5, -x)
    canvas.front(*wide, 0, height, z0, "fence", colour, texture)
    canvas.cast((side * x - 0.1, side * x + 0.1), (z0, z1), height)


def garden(
    canvas: Canvas,
    rng: random.Random,
    side: int,
    x: float,
    z0: float,
    z1: float,
    boundary: Callable[[Canvas, random.Random, int, float, float, float], None],
) -> None:
    """A plot behind a wall or fence: grass, trees, sometimes a house set back."""
    lawn = (x, x + 14) if side > 0 else (-x - 14, -x)
    canvas.ground(*lawn, z0, z1, "terrain", vary(rng, (104, 122, 62)), "grass")
    if rng.random() < 0.5:
        building(canvas, rng, side, x + 5, z0 + 2, z1)
    z = z1
    while z > z0 + 1:
        tree(canvas, rng, side * (x + rng.uniform(2, 4)), z, rng.uniform(0.8, 1.3))
        z -= rng.uniform(4, 9)
    boundary(canvas, rng, side, x, z0, z1)


def pole(
    canvas: Canvas, x: float, z: float, height: float, thick: float = 0.13, colour: Colour = (104, 108, 110)
) -> None:
    canvas.front(x - thick, x + thick, 0, height, z, "pole", colour)
    canvas.front(x - thick, x - thick * 0.2, 0, height, z - 0.01, "pole", tuple(1.25 * part for part in colour))
    canvas.cast((x - thick, x + thick), (z, z + 2 * thick), height)


def street_lamp(canvas: Canvas, rng: random.Random, x: float, z: float, side: int) -> None:
    height, arm = rng.uniform(5.5, 8), rng.uniform(0.8, 2)
    canvas.limb(x, height, x - side * arm, height + 0.25, z, 0.16, "pole", (104, 108, 110))
    tip = x - side * arm
    canvas.front(tip - 0.4, tip + 0.4, height + 0.12, height + 0.34, z, "pole", (206, 206, 196))
    pole(canvas, x, z, height)


def traffic_light(canvas: Canvas, rng: random.Random, x: float, z: float) -> None:
    pole(canvas, x, z, 3.2, 0.12, (92, 96, 98))
    lit, wide, low = rng.randrange(3), 0.34, 2.3
    canvas.front(
        x - wide, x + wide, low, low + 1.7, z - 0.05, "traffic light", rng.choice(((30, 32, 34), (52, 54, 50)))
    )
    for k, colour in enumerate(((40, 230, 120), (255, 190, 40), (255, 50, 40))):
        shown = colour if k == lit else tuple(0.22 * part for part in colour)
        canvas.disc(x, low + 0.32 + 0.53 * k, z - 0.06, 0.21, "traffic light", shown, glow=k == lit)


def traffic_sign(canvas: Canvas, rng: random.Random, x: float, z: float) -> None:
    """Warning, prohibition, priority, blue instruction or parking sign on a pole."""
    pole(canvas, x, z, 2.6, 0.09, (128, 130, 132))
    y, r, z = 2.55, rng.uniform(0.46, 0.6), z - 0.05
    kind = rng.randrange(5)
    if kind == 0:
        for size, colour in ((1.15, (206, 30, 34)), (0.68, (240, 240, 236))):
            points = [(x + size * r * math.sin(a), y + size * r * math.cos(a), z) for a in (0, 2.094, 4.189)]
            canvas.paint(points, "traffic sign", colour)
    elif kind == 1:
        canvas.disc(x, y, z, r, "traffic sign", (206, 30, 34))
        canvas.disc(x, y, z, r * 0.7, "traffic sign", (240, 240, 236))
        canvas.front(x - r * 0.25, x + r * 0.25, y - r * 0.3, y + r * 0.3, z, "traffic sign", DARK)
    elif kind == 2:
        for size, colour in ((1.15, (240, 240, 236)), (0.85, (244, 196, 20))):
            points = [(x + size * r * dx, y + size * r * dy, z) for dx, dy in ((0, 1), (1, 0), (0, -1), (-1, 0))]
            canvas.paint(points, "traffic sign", colour)
    elif kind == 3:
        canvas.disc(x, y, z, r, "traffic sign", (24, 84, 176))
        canvas.limb(x - r * 0.4, y - r * 0.4, x + r * 0.4, y + r * 0.4, z, r * 0.3, "traffic sign", (240, 240, 236))
    else:
        canvas.front(x - r, x + r, y - r, y + r, z, "traffic sign", (24, 84, 176))
        canvas.front(x - r * 0.3, x, y - r * 0.65, y + r * 0.65, z, "traffic sign", (240, 240, 236))
        canvas.front(x, x + r * 0.5, y - r * 0.05, y + r * 0.65, z, "traffic sign", (240, 240, 236))


def clutter(canvas: Canvas, rng: random.Random, x: float, z: float) -> None:
    """Void things that stand about (label `static`): a litter bin, a cabinet or an advertising column."""
    kind = rng.randrange(3)
    if kind == 2:
        canvas.front(x - 0.6, x + 0.6, 0, 3, z, "static", vary(rng, (176, 160, 130)), "plaster")
        canvas.front(x - 0.5, x + 0.4, 0.9, 2.5, z, "static", vary(rng, rng.choice(CLOTHES), 30))
        canvas.front(x - 0.7, x + 0.7, 3, 3.3, z, "static", (72, 84, 76))
    else:
        wide, height = ((0.3, 0.95), (0.55, 1.25))[kind]
        colour = vary(rng, ((58, 74, 58), (148, 148, 142))[kind])
        canvas.box((x - wide, x + wide), (0, height), (z, z + 0.5), "static", colour, "plaster")
    canvas.cast((x - 0.5, x + 0.5), (z, z + 0.6), 1.1)


# --- People and vehicles ---------------------------------------------------------------------------------------------


def _head(canvas: Canvas, rng: random.Random, x: float, y: float, z: float, label: str, covering: Colour) -> None:
    canvas.disc(x, y, z, 0.16, label, vary(rng, rng.choice(SKIN)), corners=9)
    cap = [(x + 0.175 * math.cos(a), y + 0.02 + 0.175 * math.sin(a), z) for a in (0, 0.6, 1.2, 1.9, 2.5, 3.14)]
    canvas.paint(cap, label, covering)


def person(canvas: Canvas, rng: random.Random, x: float, z: float) -> None:
    """A pedestrian who stands or walks, perhaps with a bag."""
    k = rng.uniform(0.92, 1.08) * rng.choice((1, 1, 1, 1, 0.8))
    stride, top, legs = rng.uniform(0, 0.3), vary(rng, rng.choice(CLOTHES)), vary(rng, rng.choice(CLOTHES[:4]))
    for foot in (-stride, stride):
        canvas.limb(x + foot * 0.3, 0.92 * k, x + foot - 0.06 + 0.12 * (foot > 0), 0.04, z, 0.21, "person", legs)
        canvas.limb(x + foot - 0.1, 0.05, x + foot + 0.14, 0.05, z, 0.1, "person", DARK)
    shade = tuple(0.75 * part for part in top)
    for arm in (-1, 1):
        canvas.limb(x + arm * 0.25, 1.4 * k, x + arm * (0.3 + stride * 0.4), 0.82 * k, z, 0.15, "person", shade)
    body = [(x - 0.26, 1.48 * k, z), (x + 0.26, 1.48 * k, z), (x + 0.22, 0.8 * k, z), (x - 0.22, 0.8 * k, z)]
    canvas.paint(body, "person", top)
    if rng.random() < 0.35:
        bag = x + rng.choice((-1, 1)) * 0.34
        canvas.front(bag - 0.16, bag + 0.16, 0.6 * k, 0.98 * k, z, "person", vary(rng, (120, 70, 40), 30))
    _head(canvas, rng, x, 1.63 * k, z, "person", vary(rng, rng.choice(((46, 34, 28), (150, 110, 60), (120, 118, 116)))))
    canvas.cast((x - 0.3, x + 0.3), (z - 0.15, z + 0.15), 1.7 * k)


def bicycle(canvas: Canvas, rng: random.Random, x: float, z: float, along: bool, heading: int) -> None:
    """A bicycle seen from its side (`along` False: across the view) or from behind."""
    colour = vary(rng, rng.choice(((190, 36, 40), (36, 96, 168), (52, 140, 80), (222, 222, 218), (230, 150, 30))))
    if along:
        canvas.front(x - 0.09, x + 0.09, 0, 0.74, z, "bicycle", TYRE)
        canvas.front(x - 0.14, x + 0.14, 0.52, 0.74, z, "bicycle", colour)
        canvas.limb(x - 0.36, 1.05, x + 0.36, 1.05, z, 0.09, "bicycle", DARK)
        canvas.limb(x, 0.6, x, 1.05, z, 0.12, "bicycle", colour)
        canvas.disc(x, 0.64, z, 0.08, "bicycle", (230, 30, 30), corners=8)
    else:
        rear, front = x - 0.55 * heading, x + 0.55 * heading
        for hub in (rear, front):
            canvas.disc(hub, 0.36, z, 0.38, "bicycle", TYRE, corners=14)
            canvas.disc(hub, 0.36, z, 0.27, "bicycle", (138, 140, 142), corners=12)
            canvas.limb(hub - 0.27, 0.36, hub + 0.27, 0.36, z, 0.035, "bicycle", (84, 84, 86))
            canvas.limb(hub, 0.09, hub, 0.63, z, 0.035, "bicycle", (84, 84, 86))
        crank, saddle, bar = (x - 0.05 * heading, 0.34), (x - 0.2 * heading, 0.88), (x + 0.42 * heading, 0.95)
        for a, b in ((crank, saddle), (crank, bar), (saddle, bar), ((rear, 0.36), crank), ((front, 0.36), bar)):
            canvas.limb(*a, *b, z, 0.09, "bicycle", colour)
        canvas.limb(saddle[0] - 0.15, 0.92, saddle[0] + 0.13, 0.92, z, 0.09, "bicycle", DARK)
        canvas.limb(bar[0] - 0.14 * heading, 1.03, bar[0] + 0.06, 0.98, z, 0.08, "bicycle", DARK)
    reach = 0.15 if along else 0.8
    canvas.cast((x - reach, x + reach), (z - 0.1, z + 0.8 if along else z + 0.1), 0.7)


def motorcycle(canvas: Canvas, rng: random.Random, x: float, z: float, along: bool, heading: int) -> None:
    """A motorcycle: fat dark wheels, tank, engine, seat, exhaust, lamps."""
    colour = vary(rng, rng.choice(((176, 24, 30), (28, 30, 34), (30, 70, 150), (214, 120, 20), (30, 110, 60))))
    label, chrome = "motorcycle", (188, 190, 194)
    if along:
        canvas.front(x - 0.16, x + 0.16, 0, 0.7, z, label, TYRE)
        body = [(x - 0.36, 0.5, z), (x + 0.36, 0.5, z), (x + 0.3, 1.0, z), (x - 0.3, 1.0, z)]
        canvas.paint(body, label, colour)
        for end in (-0.4, 0.4):
            canvas.front(x + end - 0.09, x + end + 0.09, 0.32, 0.56, z, label, chrome)
        canvas.limb(x - 0.52, 1.08, x + 0.52, 1.08, z, 0.11, label, DARK)
        lamp = (240, 30, 30) if heading > 0 else (255, 250, 220)
        canvas.front(x - 0.17, x + 0.17, 0.72, 0.9, z, label, lamp, glow=True)
    else:
        for hub in (x - 0.72, x + 0.72):
            canvas.disc(hub, 0.36, z, 0.37, label, TYRE, corners=14)
            canvas.disc(hub, 0.36, z, 0.15, label, chrome, corners=8)
        canvas.front(x - 0.42, x + 0.42, 0.24, 0.66, z, label, (66, 66, 70))
        canvas.front(x - 0.22, x + 0.2, 0.3, 0.55, z, label, chrome)
        outline = ((-0.95, 0.86), (-0.7, 0.66), (0.45, 0.62), (0.62, 1.12), (0.42, 1.12), (0.28, 0.96), (-0.1, 0.86))
        canvas.paint([(x + heading * dx, y, z) for dx, y in outline], label, colour)
        canvas.limb(x - 0.6 * heading, 0.88, x - 0.05 * heading, 0.86, z, 0.14, label, DARK)
        canvas.limb(x + 0.72 * heading, 0.4, x + 0.42 * heading, 1.12, z, 0.1, label, chrome)
        canvas.limb(x - 0.9 * heading, 0.32, x - 0.2 * heading, 0.28, z, 0.12, label, chrome)
        canvas.disc(x + 0.62 * heading, 0.92, z, 0.11, label, (250, 246, 214), corners=8)
    reach = 0.3 if along else 1.05
    canvas.cast((x - reach, x + reach), (z - 0.1, z + 1.2 if along else z + 0.15), 0.9)


def rider(canvas: Canvas, rng: random.Random, x: float, z: float, along: bool, heading: int, motor: bool) -> None:
    """Someone who sits on a two-wheeler, with a helmet; drawn over it."""
    top = vary(rng, (44, 44, 50) if motor and rng.random() < 0.5 else rng.choice(CLOTHES))
    legs, helmet = (
        vary(rng, rng.choice(CLOTHES[:3])),
        vary(rng, rng.choice(((232, 232, 228), (210, 40, 40), (240, 200, 30)))),
    )
    seat, z = 0.9, z - 0.02
    if along:
        for s in (-1, 1):
            canvas.limb(x + s * 0.14, seat, x + s * 0.27, 0.36, z, 0.19, "rider", legs)
            canvas.limb(x + s * 0.27, 1.44, x + s * 0.42, 1.08, z, 0.15, "rider", top)
        canvas.paint([(x - 0.24, 0.86, z), (x + 0.24, 0.86, z), (x + 0.28, 1.54, z), (x - 0.28, 1.54, z)], "rider", top)
        head = x
    else:
        hip, neck = (x - 0.2 * heading, seat), (x + 0.12 * heading, 1.54)
        knee, foot = (x + 0.2 * heading, 0.8), (x - 0.02 * heading, 0.3)
        for a, b, thick, colour in (
            (hip, knee, 0.22, legs),
            (knee, foot, 0.18, legs),
            (hip, neck, 0.36, top),
            (neck, (x + 0.42 * heading, 1.05), 0.15, tuple(0.8 * part for part in top)),
        ):
            canvas.limb(*a, *b, z, thick, "rider", colour)
        head = x + 0.18 * heading
    canvas.disc(head, 1.66, z, 0.17, "rider", vary(rng, rng.choice(SKIN)), corners=9)
    helm = [(head + 0.2 * math.cos(a), 1.68 + 0.2 * math.sin(a), z) for a in (-0.2, 0.5, 1.2, 1.9, 2.6, 3.34)]
    canvas.paint(helm, "rider", helmet)
    canvas.cast((x - 0.3, x + 0.3), (z - 0.1, z + 0.3), 1.8, 0.8)


def two_wheeler(canvas: Canvas, rng: random.Random, x: float, z: float, motor: bool, ridden: bool = True) -> None:
    along, heading = rng.random() < 0.4, rng.choice((-1, 1))
    (motorcycle if motor else bicycle)(canvas, rng, x, z, along, heading)
    if ridden:
        rider(canvas, rng, x, z, along, heading, motor)


def _underside(canvas: Canvas, x: Interval, z: float, length: float, label: str, radius: float = 0.34) -> None:
    """The dark ground below a vehicle, whatever the weather, and the wheels of its near end; drawn before its body."""
    canvas.ground(x[0] - 0.08, x[1] + 0.08, z - 0.12, z + length, "road", (40, 40, 44))
    for left in (x[0] + 0.08, x[1] - 0.36):
        canvas.front(left, left + 0.28, 0, 2 * radius, z, label, TYRE)


def _wheels(
    canvas: Canvas,
    x: Interval,
    z: float,
    length: float,
    label: str,
    radius: float = 0.34,
    axles: Sequence[float] = (0.19, 0.81),
) -> None:
    """The wheels on the side of a vehicle that we see."""
    if not (x[0] > 0 or x[1] < 0):
        return
    edge = x[0] - 0.02 if x[0] > 0 else x[1] + 0.02
    for axle in axles:
        hub = z + axle * length
        canvas.disc(edge, radius, hub, radius, label, TYRE, facing=SIDE)
        canvas.disc(edge, radius, hub, radius * 0.55, label, (150, 152, 156), facing=SIDE, corners=8)


def _lamps(canvas: Canvas, x: Interval, y: float, z: float, label: str, oncoming: bool, lit: bool) -> None:
    """Head lamps of a vehicle that comes, tail lamps of one that goes."""
    colour = (255, 250, 226) if oncoming else (226, 24, 24)
    for left in (x[0] + 0.06, x[1] - 0.42):
        canvas.front(left, left + 0.36, y, y + 0.17, z - 0.01, label, colour, glow=lit)


def car(canvas: Canvas, rng: random.Random, x: float, z: float, oncoming: bool) -> None:
    """A car along the street whose near end is at z."""
    colour, length = vary(rng, rng.choice(PAINT)), rng.uniform(3.8, 4.6)
    wide, roof, belt = (x - 0.9, x + 0.9), rng.uniform(1.42, 1.75), rng.uniform(0.86, 0.96)
    hood = 1.1 if oncoming else rng.choice((0.05, 0.05, 0.7))
    cabin = (z + hood, z + length - (0.3 if oncoming else 1.2))
    _underside(canvas, wide, z, length, "car")
    canvas.box((wide[0] + 0.1, wide[1] - 0.1), (0.12, 0.4), (z, z + length), "car", DARK)
    canvas.box(wide, (0.28, belt), (z, z + length), "car", colour, inset=(0.03, 0.08, 0.08))
    slant = (0.22, 0.75 if oncoming else 0.4, 0.6)
    body = (wide[0] + 0.06, wide[1] - 0.06)
    canvas.box(body, (belt, roof), cabin, "car", colour, inset=slant)
    glass = (body[0] + 0.07, body[1] - 0.07)
    near = [(glass[0], belt, cabin[0]), (glass[1], belt, cabin[0])]
    near += [(glass[1] - 0.17, roof - 0.1, cabin[0] + slant[1]), (glass[0] + 0.17, roof - 0.1, cabin[0] + slant[1])]
    canvas.paint(near, "car", GLASS)
    if wide[0] > 0 or wide[1] < 0:
        s = 1 if wide[0] > 0 else -1
        edge = body[0] if s > 0 else body[1]
        middle = (cabin[0] + cabin[1]) / 2
        for z0, z1, t0, t1 in ((cabin[0] + 0.2, middle - 0.06, slant[1], 0), (middle + 0.06, cabin[1] - 0.2, 0, -0.6)):
            foot, head = (edge + s * 0.02, belt + 0.03), (edge + s * 0.18, roof - 0.1)
            pane = [(*foot, z0), (*foot, z1), (*head, z1 + t1 * 0.8), (*head, z0 + t0 * 0.8)]
            canvas.paint(pane, "car", GLASS)
    canvas.front(x - 0.26, x + 0.26, 0.46, 0.58, z - 0.01, "car", (236, 236, 230))
    if oncoming:
        canvas.front(x - 0.5, x + 0.5, 0.6, 0.72, z - 0.01, "car", DARK)
    _lamps(canvas, wide, 0.62, z, "car", oncoming, rng.random() < 0.4)
    _wheels(canvas, wide, z, length, "car")
    canvas.cast(wide, (z, z + length), 1.3)


def car_across(canvas: Canvas, rng: random.Random, x: float, z: float, heading: int) -> None:
    """A car that crosses the street, seen from its side."""
    colour, roof = vary(rng, rng.choice(PAINT)), rng.uniform(1.42, 1.6)
    outline = ((-2.1, 0.3), (2.1, 0.3), (2.1, 0.72), (1.2, 0.9), (0.6, roof), (-1.2, roof), (-1.8, 0.95), (-2.1, 0.85))
    canvas.paint([(x + heading * dx, y, z) for dx, y in outline], "car", colour)
    rear = ((-1.6, 0.95), (-0.3, 0.95), (-0.3, roof - 0.1), (-1.1, roof - 0.1))
    front = ((-0.2, 0.95), (1.0, 0.95), (0.5, roof - 0.1), (-0.2, roof - 0.1))
    for pane in (rear, front):
        canvas.paint([(x + heading * dx, y, z) for dx, y in pane], "car", GLASS)
    for hub in (-1.3, 1.3):
        canvas.disc(x + hub, 0.33, z - 0.01, 0.36, "car", TYRE)
        canvas.disc(x + hub, 0.33, z - 0.01, 0.2, "car", (160, 162, 166), corners=9)
    canvas.front(x + heading * 2.0 - 0.1, x + heading * 2.0 + 0.1, 0.6, 0.72, z - 0.01, "car", (250, 240, 200))
    canvas.cast((x - 2.1, x + 2.1), (z, z + 1.7), 1.3)


def _band(
    canvas: Canvas,
    x: Interval,
    z: float,
    y0: float,
    y1: float,
    label: str,
    colour: Colour,
    first: float,
    last: float,
    panes: int,
    gap: float = 0.12,
) -> None:
    """A row of panes (or panels) on the visible side of a vehicle from first to last metre behind z."""
    if not (x[0] > 0 or x[1] < 0):
        return
    edge, step = (x[0] - 0.02 if x[0] > 0 else x[1] + 0.02), (last - first) / panes
    for k in range(panes):
        start = z + first + k * step
        canvas.side(edge, y0, y1, start, start + step - gap, label, colour)


def bus(canvas: Canvas, rng: random.Random, x: float, z: float, oncoming: bool) -> None:
    """A city bus: one colour, low floor, a window front or back, a lit destination."""
    colour = vary(rng, rng.choice(((206, 164, 24), (184, 34, 40), (38, 84, 158), (222, 222, 216))))
    wide, length = (x - 1.25, x + 1.25), rng.uniform(10, 12)
    _underside(canvas, wide, z, length, "bus", 0.48)
    canvas.box(wide, (0.3, 3.1), (z, z + length), "bus", colour)
    _band(canvas, wide, z, 1.35, 2.6, "bus", GLASS, 0.3, length - 0.3, 6)
    _band(canvas, wide, z, 0.3, 0.55, "bus", DARK, 0, length, 1, 0)
    if oncoming:
        canvas.front(x - 1.15, x + 1.15, 1.1, 2.55, z - 0.01, "bus", GLASS)
        canvas.front(x - 0.03, x + 0.03, 1.1, 2.55, z - 0.02, "bus", colour)
    else:
        canvas.front(x - 0.95, x + 0.95, 1.6, 2.5, z - 0.01, "bus", GLASS)
        canvas.front(x - 0.8, x + 0.8, 0.75, 1.3, z - 0.01, "bus", tuple(0.7 * part for part in colour))
    canvas.front(x - 0.85, x + 0.85, 2.66, 2.98, z - 0.01, "bus", DARK)
    canvas.front(x - 0.6, x + 0.6, 2.74, 2.9, z - 0.02, "bus", (255, 170, 30), glow=True)
    canvas.front(*wide, 0.3, 0.5, z - 0.01, "bus", DARK)
    _lamps(canvas, wide, 0.6, z, "bus", oncoming, True)
    _wheels(canvas, wide, z, length, "bus", 0.48, (0.22, 0.74))
    canvas.cast(wide, (z, z + length), 3.0)


def truck(canvas: Canvas, rng: random.Random, x: float, z: float, oncoming: bool) -> None:
    """A lorry: cab and, higher and wider, a plain box or tarpaulin on a dark frame with visible wheels."""
    cargo = vary(rng, rng.choice(((214, 212, 204), (148, 154, 152), (176, 156, 116), (102, 122, 104))))
    cab = vary(rng, rng.choice(((190, 40, 36), (40, 76, 150), (224, 224, 220), (216, 132, 30))))
    length, wide, inner = rng.uniform(7, 9), (x - 1.25, x + 1.25), (x - 1.1, x + 1.1)
    start, end = (z + 2.1, z + length) if oncoming else (z, z + length - 2.1)
    front, back = (z, z + 2.0) if oncoming else (end + 0.1, z + length)
    _underside(canvas, inner, z, length, "truck", 0.5)
    if not oncoming:
        canvas.box(inner, (0.5, 2.6), (front, back), "truck", cab)
        _band(canvas, inner, front, 1.55, 2.3, "truck", GLASS, 0.4, 1.6, 1)
    canvas.box(wide, (1.15, 3.7), (start, end), "truck", cargo, "plaster")
    _band(canvas, wide, start, 1.2, 3.65, "truck", tuple(0.8 * part for part in cargo), 0.9, end - start, 6, 0.85)
    canvas.box((x - 0.95, x + 0.95), (0.45, 1.15), (start, end), "truck", (58, 56, 54))
    if oncoming:
        canvas.box(inner, (0.4, 2.7), (front, back), "truck", cab)
        _band(canvas, inner, front, 1.6, 2.35, "truck", GLASS, 0.3, 1.5, 1)
        canvas.front(x - 1.0, x + 1.0, 1.6, 2.4, z - 0.01, "truck", GLASS)
        canvas.front(x - 0.8, x + 0.8, 0.8, 1.35, z - 0.01, "truck", (52, 54, 56))
        _lamps(canvas, inner, 0.55, z, "truck", True, True)
    else:
        for line in (-1.18, -0.04, 1.1):
            canvas.front(x + line, x + line + 0.08, 1.15, 3.65, z - 0.01, "truck", tuple(0.6 * part for part in cargo))
        canvas.front(*inner, 0.55, 0.75, z - 0.01, "truck", (196, 60, 40))
        _lamps(canvas, inner, 0.85, z, "truck", False, True)
    _wheels(canvas, inner, z, length, "truck", 0.5, (0.14, 0.3, 0.84))
    canvas.cast(wide, (z, z + length), 3.5)


def tram(canvas: Canvas, rng: random.Random, x: float, z: float, oncoming: bool) -> None:
    """A tram (class train): long, two colours, rounded head, current collector, on rails."""
    colour = vary(rng, rng.choice(((196, 40, 44), (40, 120, 84), (232, 180, 40))))
    cream, wide, length = (232, 226, 208), (x - 1.25, x + 1.25), rng.uniform(20, 30)
    _underside(canvas, wide, z, length, "train", 0.2)
    for s in (-0.05, 0.9):
        canvas.limb(x + s, 4.5, x + s * 0.2, 5.2, z + 4, 0.1, "train", DARK)
    canvas.front(x - 0.7, x + 0.9, 5.15, 5.3, z + 4, "train", DARK)
    canvas.box(wide, (0.25, 3.5), (z, z + length), "train", cream, inset=(0.08, 0.35, 0.1))
    canvas.box((x - 0.9, x + 0.9), (3.5, 3.95), (z + 1, z + length), "train", (112, 114, 118))
    _band(canvas, wide, z, 0.25, 1.3, "train", colour, 0, length, 1, 0)
    _band(canvas, wide, z, 1.55, 2.8, "train", GLASS, 0.8, length, 9, 0.3)
    _band(canvas, wide, z, 0.25, 3.4, "train", (62, 62, 66), 8, 9.2, 1, 0)
    for half, y0, y1, tone in ((1.25, 0.25, 1.3, colour), (1.05, 1.5, 2.75, GLASS), (0.6, 2.9, 3.2, DARK)):
        low, high = (z - 0.02 + 0.35 * (y - 0.25) / 3.25 for y in (y0, y1))  # the head leans back
        face = [(x - half, y0, low), (x + half, y0, low), (x + half, y1, high), (x - half, y1, high)]
        canvas.paint(face, "train", tone)
    canvas.front(x - 0.4, x + 0.4, 2.97, 3.13, z - 0.02 + 0.27, "train", (255, 170, 30), glow=True)
    canvas.front(x - 1.0, x + 1.0, 0.05, 0.3, z - 0.02, "train", DARK)
    _lamps(canvas, (x - 1.1, x + 1.1), 0.75, z, "train", oncoming, True)
    canvas.disc(x, 0.84, z - 0.05, 0.2, "train", (250, 246, 226) if oncoming else (150, 30, 30), corners=10)
    canvas.cast(wide, (z, z + length), 3.5)
