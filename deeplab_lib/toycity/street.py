"""A street scene: a cross-section is drawn by lot, houses and things are placed along it, and all is painted.

A scene depends on (seed, split, index) alone, not on its size in pixels nor on how many scenes there are.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from deeplab_lib.toycity import things
from deeplab_lib.toycity.canvas import FAR, Canvas, interval

VERSION = 1
RARE_OBJECTS = (
    *("truck", "motorcyclist", "wall", "traffic light", "bus", "bicycle stand"),
    *("fence", "train", "cyclist", "verge", "traffic sign", "pedestrians"),
)
LEFT, RIGHT = SIDES = (-1, 1)


def rare_objects_of(index: int) -> tuple[str, str]:
    """The two rare classes that scene `index` holds for certain; every pair takes its turn."""
    count = len(RARE_OBJECTS)
    return RARE_OBJECTS[index % count], RARE_OBJECTS[(index + 1 + index // count % (count - 1)) % count]


class Street:
    """A street's cross-section in metres, and what stands on it, collected here to be drawn from far to near."""

    def __init__(self, rng: random.Random, rare_objects: Mapping[str, int]) -> None:
        shift = rng.uniform(-0.4, 0.4)
        self.parking = {side: rng.random() < 0.5 for side in SIDES}
        self.edge = {LEFT: 5.0 + 2.0 * self.parking[LEFT] + shift, RIGHT: 2.1 + 2.0 * self.parking[RIGHT] - shift}
        self.walk = {side: rng.uniform(2.4, 4.2) for side in SIDES}
        self.verge = dict.fromkeys(SIDES, 0.0)
        if "verge" in rare_objects:
            self.verge[rare_objects["verge"]] = rng.uniform(2.0, 3.2)
        elif rng.random() < 0.15:
            self.verge[rng.choice(SIDES)] = rng.uniform(1.0, 2.0)
        self.lane = {"own": shift, "oncoming": shift - 3.4}
        self.ahead = {"own": rng.uniform(9, 22), "oncoming": rng.uniform(8, 20)}  # first car; rare objects push it back
        self.clear = {LEFT: rng.uniform(5, 12), RIGHT: rng.uniform(4, 10)}  # first thing at the kerb, likewise
        self.rails = "train" in rare_objects or rng.random() < 0.08
        self.things: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def line(self, side: int) -> float:
        """Distance of the house fronts from the middle."""
        return self.edge[side] + self.verge[side] + self.walk[side]

    def put(self, draw: Callable[..., None], x: float, z: float, *details: Any) -> None:
        """Stand something at (x, z), to be drawn by `draw(canvas, rng, x, z, *details)`."""
        self.things.append((z, draw, (x, z, *details)))

    def draw_things(self, canvas: Canvas, rng: random.Random) -> None:
        """Draw what was put, from far to near."""
        for _, draw, arguments in sorted(self.things, key=lambda thing: -thing[0]):
            draw(canvas, rng, *arguments)


def paint_ground(canvas: Canvas, rng: random.Random, street: Street) -> None:
    """Open country, pavements, verges, road, repairs and kerbs."""
    for side in SIDES:
        country = interval(0, 40 * side)
        canvas.ground(*country, 1, FAR, "terrain", things.vary(rng, (112, 118, 70)), "grass")
        kerb = side * street.edge[side]
        pavement = interval(kerb, side * (street.line(side) + 2))
        canvas.ground(*pavement, 1, 160, "sidewalk", things.vary(rng, (158, 152, 150)), "paving")
        verge = interval(kerb, kerb + side * street.verge[side])
        if street.verge[side]:
            canvas.ground(*verge, 1, 160, "terrain", things.vary(rng, (100, 128, 56)), "grass")
    left, right = -street.edge[LEFT], street.edge[RIGHT]
    tone = things.vary(rng, (92, 92, 96), 14)
    canvas.ground(left, right, 1, 160, "road", tone, "asphalt")
    for _ in range(rng.randint(0, 3)):
        x, z = rng.uniform(left, right - 1.5), rng.uniform(4, 20)
        repair = tuple(part * rng.uniform(0.8, 0.95) for part in tone)
        canvas.ground(x, x + rng.uniform(0.8, 1.5), z, z + rng.uniform(2, 6), "road", repair, "asphalt")
    for side in SIDES:
        kerb = side * street.edge[side]
        canvas.ground(*interval(kerb, kerb + 0.22 * side), 1, 160, "sidewalk", (190, 188, 184))


def paint_markings(canvas: Canvas, rng: random.Random, street: Street) -> None:
    """Parking and centre lines, tram rails."""
    for side in SIDES:
        line = side * (street.edge[side] - 2.08)
        if street.parking[side]:
            canvas.ground(line - 0.06, line + 0.06, 1, 90, "road", (206, 206, 204))
    if street.rails:
        for rail in (street.lane["oncoming"] - 0.72, street.lane["oncoming"] + 0.72):
            canvas.ground(rail - 0.12, rail + 0.12, 1, 160, "road", (58, 58, 62))
            canvas.ground(rail - 0.04, rail + 0.04, 1, 160, "road", (176, 178, 184))
    middle, z = sum(street.lane.values()) / 2, rng.uniform(1, 6)
    while z < 80:
        canvas.ground(middle - 0.08, middle + 0.08, z, z + 3, "road", (224, 224, 220))
        z += 6.5


def paint_crossing(canvas: Canvas, rng: random.Random, street: Street) -> None:
    """A zebra crossing with a stop line; sometimes people on it."""
    z, x = rng.uniform(8, 16), -street.edge[LEFT] + 0.4
    while x < street.edge[RIGHT] - 0.4:
        canvas.ground(x, x + 0.5, z, z + 3, "road", (220, 220, 216), "plaster")
        x += 1.05
    own = street.lane["own"]
    canvas.ground(own - 1.6, own + 1.6, z - 1.6, z - 1.2, "road", (220, 220, 216))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        street.put(things.person, rng.uniform(-street.edge[LEFT], street.edge[RIGHT]), z + 1)


def paint_skyline(canvas: Canvas, rng: random.Random) -> None:
    """What closes the street in the distance: houses and trees."""
    x = -75.0
    while x < 75:
        wide = rng.uniform(7, 16)
        if rng.random() < 0.6:
            colour = things.vary(rng, rng.choice(things.PLASTER))
            canvas.front(x, x + wide, 0, rng.uniform(7, 17), 150, "building", colour, "facade")
        else:
            things.crown(canvas, rng, x + wide / 2, 4, 149, wide * 0.62, rng.choice(things.GREENS))
        x += wide


def paint_row(canvas: Canvas, rng: random.Random, street: Street, side: int, rare_objects: Mapping[str, int]) -> None:
    """One side of the street from far to near: houses, parks, walls, fences and the mouths of side streets."""
    walled, fenced = partial(things.garden, boundary=things.wall), partial(things.garden, boundary=things.fence)
    wanted = [plot for name, plot in (("wall", walled), ("fence", fenced)) if rare_objects.get(name) == side]
    line, z, plots = street.line(side), rng.uniform(-4, 6), []
    while z < 115:
        length = rng.uniform(9, 19)
        draw = rng.choices((things.building, things.park, walled, fenced, None), (0.6, 0.18, 0.035, 0.035, 0.15))[0]
        if wanted and z + length > line * 2.4:
            draw, length = wanted.pop(), rng.uniform(8, 13)
        plots.append((draw, max(z, 1.5), z + length))
        z += length
    for draw, z0, z1 in reversed(plots):
        if draw:
            draw(canvas, rng, side, line, z0, z1)
        else:
            mouth = interval(side * (street.edge[side] - 0.06), side * 40)
            canvas.ground(*mouth, z0 + 1, z1 - 1, "road", (96, 96, 100), "asphalt")


def within(rng: random.Random, x: float, nearest: float, farthest: float) -> float:
    """A distance at which something at x is well inside the picture."""
    return max(rng.uniform(nearest, farthest), abs(x) * 2.3 + 0.8)


def place_large_rare_objects(rng: random.Random, street: Street, rare_objects: Mapping[str, int]) -> None:
    """Truck, bus and tram, each in a lane of its own and first in it; the tram keeps to its rails."""
    drawings = {"train": things.tram, "truck": things.truck, "bus": things.bus}
    lanes = ["oncoming", "own"] if "train" in rare_objects or rng.random() < 0.5 else ["own", "oncoming"]
    for draw in (draw for name, draw in drawings.items() if name in rare_objects):
        lane, z = lanes.pop(0), rng.uniform(13, 26)
        street.put(draw, street.lane[lane], z, lane == "oncoming")
        street.ahead[lane] = z + 30


def place_small_rare_objects(rng: random.Random, street: Street, rare_objects: Mapping[str, int]) -> None:
    """Riders, lights, signs, parked two-wheelers and pedestrians, where nothing hides them."""
    for name, side in rare_objects.items():
        kerb = side * (street.edge[side] + rng.uniform(0.5, 0.9))
        if name in ("motorcyclist", "cyclist"):
            lane, shift = ("own", rng.uniform(0.2, 1.3)) if side == RIGHT else ("oncoming", rng.uniform(0.4, 1.6))
            x = street.lane[lane] + shift
            z = within(rng, x, 6.5, 11)
            street.put(things.two_wheeler, x, z, name == "motorcyclist")
            street.ahead[lane] = max(street.ahead[lane], z + rng.uniform(4, 9))
        elif name == "traffic light":
            for x in (-street.edge[LEFT] - 0.5, street.edge[RIGHT] + 0.5):
                street.put(things.traffic_light, x, within(rng, x, 8, 13))
        elif name == "traffic sign":
            street.put(things.traffic_sign, kerb, within(rng, kerb, 8, 13))
        elif name in ("bicycle stand", "pedestrians"):
            for k in range(rng.randint(2, 4)):
                x = kerb + side * k * rng.uniform(0.1, 0.8)
                z = within(rng, x, 7, 11) + 0.9 * k
                if name == "pedestrians":
                    street.put(things.person, x, z)
                else:
                    street.put(things.two_wheeler, x, z, k == 0 and rng.random() < 0.35, False)
                street.clear[side] = max(street.clear[side], z + 1)


def place_traffic(rng: random.Random, street: Street) -> None:
    """Cars ahead, oncoming, parked and crossing; seldom a truck or a bus."""
    for lane, x in street.lane.items():
        z = street.ahead[lane]
        while z < 70:
            draw = rng.choices((things.car, things.truck, things.bus), (0.965, 0.02, 0.015))[0]
            street.put(draw, x + rng.uniform(-0.2, 0.2), z, lane == "oncoming")
            z += rng.uniform(9, 30)
    for side in SIDES:
        z = street.clear[side] + rng.uniform(1, 5)
        while street.parking[side] and z < 55:
            if rng.random() < 0.75:
                street.put(things.car, side * (street.edge[side] - 1.05), z, side == LEFT)
            z += rng.uniform(5.3, 6.2)
    if rng.random() < 0.08:
        street.put(things.car_across, rng.uniform(-4, 2), rng.uniform(13, 25), rng.choice(SIDES))


def place_pavement(rng: random.Random, street: Street) -> None:
    """Trees, lamps, signs, lights, clutter, people and parked two-wheelers along both pavements."""
    for side in SIDES:
        near, kerb, wall = street.clear[side], side * (street.edge[side] + 0.5), side * (street.line(side) - 0.5)
        leafy, z = rng.random() < 0.4, near + rng.uniform(2, 9)
        while leafy and z < 80:
            street.put(things.tree, kerb, z)
            z += rng.uniform(8, 13)
        for z in (rng.uniform(9, 15), rng.uniform(22, 32), rng.uniform(42, 60)):
            street.put(things.street_lamp, kerb, z, side)
        for draw, chance in ((things.traffic_sign, 0.35), (things.traffic_light, 0.12), (things.clutter, 0.35)):
            if rng.random() < chance:
                street.put(draw, kerb, max(near, within(rng, kerb, 8, 24)))
        for _ in range(rng.choices((0, 1, 2, 4), (0.35, 0.3, 0.2, 0.15))[0]):
            x = rng.uniform(kerb, wall)
            street.put(things.person, x, max(near, within(rng, x, 7, 30)))
        if rng.random() < 0.12:
            street.put(things.two_wheeler, wall, max(near, within(rng, wall, 8, 20)), rng.random() < 0.3, False)


def paint_bonnet(canvas: Canvas, rng: random.Random) -> None:
    """Our own car at the lower edge (label `ego vehicle`): no part of the street, hence void."""
    depth, points = rng.uniform(0.03, 0.075), [(1.2, 1.05), (-1.2, 1.05)]  # in the picture, from its middle and top
    points += [(k / 5, 1 - depth * (1 - 0.5 * (k / 5) ** 2)) for k in range(-6, 7)]
    eye, focal, centre = canvas.eye, canvas.focal, canvas.centre[1]
    canvas.paint([(u / focal, eye - (v - centre) / focal, 1) for u, v in points], "ego vehicle", (58, 60, 66))


def scene(seed: int, split: str, index: int, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """One street scene.

    Args:
        seed, split, index: what the scene depends on, whatever the size and however many scenes there are.
        size: (height, width) in pixels.
    Returns:
        The picture, uint8 `(H, W, 3)`, and its Cityscapes label ids, uint8 `(H, W)`.
    """
    rng = random.Random(f"toycity {VERSION} {seed} {split} {index}")
    rare_objects = {name: rng.choice(SIDES) for name in rare_objects_of(index)}
    canvas, street = Canvas(size, rng), Street(rng, rare_objects)
    paint_ground(canvas, rng, street)
    paint_markings(canvas, rng, street)
    if rng.random() < 0.25 or "traffic light" in rare_objects:
        paint_crossing(canvas, rng, street)
    paint_skyline(canvas, rng)
    for side in SIDES:
        paint_row(canvas, rng, street, side, rare_objects)
    place_large_rare_objects(rng, street, rare_objects)
    place_small_rare_objects(rng, street, rare_objects)
    place_traffic(rng, street)
    place_pavement(rng, street)
    street.draw_things(canvas, rng)
    paint_bonnet(canvas, rng)
    return canvas.render()
