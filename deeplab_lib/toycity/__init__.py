"""A toy city: procedural street scenes in perspective, written as Cityscapes files.

All 19 classes occur, and void. Frequent classes are as frequent as in Cityscapes. Rare ones are rare by how seldom they
occur, not by being tiny, and each scene expects two of `RARE_OBJECTS` by rotation over its index: any 100 consecutive
scenes of a split hold every class in at least 8, and all splits follow one distribution. A scene depends on (seed,
split, index) alone, not on its size in pixels nor on how many scenes there are.
"""

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplab_lib.common.locks import held
from deeplab_lib.toycity.street import VERSION, scene

MAX_SIZE = (1024, 2048)
CITIES = {
    "train": ("attrappenheim", "kulissenstadt", "modellingen"),
    "val": ("pappenburg", "spielhausen"),
    "test": ("luftschloss", "nirgendorf"),
}
COARSE, COARSE_CITIES = "train_extra", ("grobheim", "pauschaldorf", "ungefaehrstadt")
PARAMETERS_FILE = "toycity.json"


def coarsened(label_ids: np.ndarray) -> np.ndarray:
    """Label ids `(H, W)` as a hurried annotator draws them: blocks of one class alone, the rest unlabelled."""
    (height, width), side = label_ids.shape, max(2, label_ids.shape[0] // 32)
    rows, columns, coarse = height // side, width // side, np.zeros_like(label_ids)
    blocks = label_ids[: rows * side, : columns * side].reshape(rows, side, columns, side)
    alike = blocks.min((1, 3), keepdims=True) == blocks.max((1, 3), keepdims=True)
    coarse[: rows * side, : columns * side] = np.where(alike, blocks, 0).reshape(rows * side, columns * side)
    return coarse


def write_scene(root: str | os.PathLike[str], seed: int, size: Sequence[int], split: str, index: int) -> None:
    """Write one scene's two files under the names that Cityscapes would give them."""
    picture, label_ids = scene(seed, split, index, size)
    cities = COARSE_CITIES if split == COARSE else CITIES[split]
    city = cities[index % len(cities)]
    name = f"{city}_{index:06d}_000019"
    kind, labels = ("gtCoarse", coarsened(label_ids)) if split == COARSE else ("gtFine", label_ids)
    for folder, ending, pixels in (("leftImg8bit", "leftImg8bit", picture), (kind, f"{kind}_labelIds", labels)):
        path = Path(root, folder, split, city, f"{name}_{ending}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1)  # speed: the sensor's noise leaves little to squeeze


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """What `toycity.json` holds of a city of these `parameters`."""
    return json.dumps(parameters, indent=2) + "\n"


def check(root: Path, parameters: Mapping[str, Any]) -> dict[str, int] | None:
    """How many scenes of each split `root` holds already of this toy city, which may be larger; None for no city yet.

    ValueError or FileExistsError says what is wrong.
    """
    height, width = parameters["size"]
    counts = {split: parameters[split] for split in CITIES}
    if not (16 <= height <= MAX_SIZE[0] and 16 <= width <= MAX_SIZE[1]):
        raise ValueError(f"size is {height}x{width} (height x width); a toy city has 16x16 to 1024x2048")
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ValueError(f"a toy city needs at least one scene and no negative number: {counts}")
    if root.is_file():
        raise FileExistsError(f"{root} is a file; name a folder that the toy city may create")
    if not root.exists() or not any(root.iterdir()):
        return None
    if not (root / PARAMETERS_FILE).is_file():
        raise FileExistsError(f"{root} holds other files and no toy city; name a new or empty folder")
    try:
        found = dict(json.loads((root / PARAMETERS_FILE).read_text(encoding="utf-8")))
        written = {split: int(found[split]) for split in CITIES}
    except (ValueError, TypeError, KeyError) as error:
        raise FileExistsError(f"{root / PARAMETERS_FILE} is damaged; delete the folder or name another") from error
    if found | counts != parameters:
        names = [name for name in parameters if name not in counts and found.get(name) != parameters[name]]
        changes = ", ".join(f"{name} {found.get(name)}, not {parameters[name]}" for name in names)
        raise FileExistsError(f"{root} holds another toy city ({changes}); delete it or name another folder")
    for split, count in written.items():
        there = len(list((root / "leftImg8bit" / split).glob("*/*.png")))
        if there < count:
            lost = f"{there} of the {count} pictures of the split {split}"
            raise FileExistsError(f"{root} has {lost}; delete the folder, and the toy city is drawn again")
    return written


def write(
    root: str | os.PathLike[str],
    train: int,
    val: int,
    test: int = 0,
    size: Sequence[int] = (128, 256),
    seed: int = 0,
    workers: int | None = 1,
) -> Path:
    """Write a toy city in Cityscapes' layout, or the scenes that one at `root` lacks; if all are there, do nothing.

    A new city appears whole or not at all. One that has more scenes than asked for keeps them.
    Any 100 consecutive scenes of a split hold every class in at least 8 of them (see `RARE_OBJECTS`). The annotations
    of `test` are real too.

    Args:
        root: folder to create: `leftImg8bit/<split>/<city>/`, `gtFine/<split>/<city>/` and `toycity.json`.
        train, val, test: number of scenes.
        size: (height, width) in pixels, at most 1024x2048.
        seed: another seed is another city.
        workers: processes to draw with; None takes one a core.
    Returns: root, a Path.
    Raises: ValueError for impossible parameters; FileExistsError where `root` holds anything but a toy city like it.
    """
    root = Path(root).resolve()
    size = tuple(int(side) for side in size)
    parameters = {"generator": "deeplab_lib.toycity", "version": VERSION, "synthetic": True, "seed": seed}
    parameters |= {"size": list(size), "train": train, "val": val, "test": test}
    if _holds(check(root, parameters), parameters):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    part = root.with_name(f".{root.name}.partial")
    with _drawing(root, part):
        written = check(root, parameters)
        if _holds(written, parameters):  # another process has just written it
            return root
        shutil.rmtree(part, ignore_errors=True)  # what a killed process left
        try:
            _write_rest(root, part, parameters, written or dict.fromkeys(CITIES, 0), workers)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return root


def _drawing(root: Path, part: Path) -> AbstractContextManager[None]:
    """Hold the toy city at `root` for this process, whose scenes grow in `part`."""
    return held(root.with_name(f".{root.name}"), f"the toy city {root}", "drawn", lambda: part.glob("*/*/*"))


def _holds(written: Mapping[str, int] | None, parameters: Mapping[str, Any]) -> bool:
    """Whether the scenes `written`, by split, are all that `parameters` ask for."""
    return written is not None and all(written[split] >= parameters[split] for split in CITIES)


def _write_rest(
    root: Path, part: Path, parameters: dict[str, Any], written: Mapping[str, int], workers: int | None
) -> None:
    """Draw in `part` what the city at `root` lacks, and move it there; its parameters last, for they say what is whole.

    A new city is moved as one folder; to one that grows, whose files stay as they are, its new scenes one by one.
    """
    counts = {split: max(written[split], parameters[split]) for split in CITIES}
    jobs = [(split, index) for split in CITIES for index in range(written[split], counts[split])]
    draw_scenes(part, parameters, jobs, workers)
    (part / PARAMETERS_FILE).write_text(parameters_text(parameters | counts), encoding="utf-8")
    if not any(written.values()):
        if root.exists():
            root.rmdir()
        os.replace(part, root)
        return
    for path in sorted(part.rglob("*.png")):
        target = root / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    os.replace(part / PARAMETERS_FILE, root / PARAMETERS_FILE)


def write_coarse(root: str | os.PathLike[str], count: int, workers: int | None = 1) -> Path:
    """Add the split `train_extra` to the toy city at `root`: `count` scenes more, with coarse labels in `gtCoarse`.

    As with Cityscapes they are other scenes, of other cities. Whole or not at all; what is there already stays.
    Returns: root, a Path.
    """
    root = Path(root).resolve()
    part = root.with_name(f".{root.name}.coarse")
    parameters = json.loads((root / PARAMETERS_FILE).read_text(encoding="utf-8"))
    with _drawing(root, part):
        if (root / "gtCoarse").exists():
            return root
        shutil.rmtree(part, ignore_errors=True)  # what a killed process left
        try:
            draw_scenes(part, parameters, [(COARSE, index) for index in range(count)], workers)
            shutil.rmtree(root / "leftImg8bit" / COARSE, ignore_errors=True)
            os.replace(part / "leftImg8bit" / COARSE, root / "leftImg8bit" / COARSE)
            os.replace(part / "gtCoarse", root / "gtCoarse")
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return root


def draw_scenes(
    root: str | os.PathLike[str], parameters: Mapping[str, Any], jobs: Sequence[tuple[str, int]], workers: int | None
) -> None:
    """Write the scenes `jobs` [(split, index)] below `root`."""
    draw = partial(write_scene, root, parameters["seed"], parameters["size"])
    if workers == 1:
        for job in jobs:
            draw(*job)
        return
    # The stop button reaches every process: only this one obeys, and the others end with it.
    with ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            list(pool.map(draw, *zip(*jobs, strict=True), chunksize=2))  # a list, so that an error is raised here
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
