"""A trained run as an ONNX file, to be used without PyTorch and without this kit, and a card that says what it is.

`python -m deeplab_lib.onnx_export RUN` writes `<run>.onnx` and `<run>.onnx.md` beside the run's files (an extra:
`pip install -e ".[onnx]"`). RUN: a run's name with its folder, any of its files, or a folder of runs, of which
the best is taken.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from deeplab_lib import __version__
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import absolute, for_project, read_json, write_atomic, write_text
from deeplab_lib.common.types import PathLike, Say
from deeplab_lib.labels import CLASSES
from deeplab_lib.models.deeplabv2 import count_parameters
from deeplab_lib.models.onnx_file import INPUT, Output, check_installed, checked_onnx, with_metadata
from deeplab_lib.predict import ENDING, TrainedRun, load_run, weights_file
from deeplab_lib.training import checkpoint

CITYSCAPES_TERMS = (
    "Cityscapes: for non-commercial purposes such as research, teaching, scientific publications and personal "
    "experimentation; https://www.cityscapes-dataset.com/license/"
)


@short_traceback
def export_onnx(
    path: str | Path | None = None,
    out: PathLike | None = None,
    output: Output = "labels",
    licence: str | None = None,
    say: Say = print,
) -> Path:
    """Write the best weights of a trained run as an ONNX file; returns it. The card beside it has `.md` at its end.

    path: as of `load_run`. out: the file; None: `<stem>.onnx` beside the run's own. output: "labels" or "logits".
    licence: terms of the data, where the kit does not know them. The file holds the network with its normalisation and
    upsampling, for any number of images of any size; that ONNX Runtime computes what PyTorch does is checked first.

    Raises ValueError in one line where onnx or onnxruntime is missing, and for a network that ONNX cannot express;
    FileNotFoundError where there is no such run.
    """
    check_installed()
    if out:
        check_writable(absolute(out))
    weights = weights_file(path, say)
    run = load_run(weights, device="cpu", say=say)
    model, any_size = checked_onnx(run.model, run.normalization, run.size, output)
    about = card(run, weights, output, any_size, licence)
    file = absolute(out) if out else weights.with_name(f"{run.stem}.onnx")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, lambda temporary: temporary.write_bytes(with_metadata(model, about)))
    write_text(file.with_name(f"{file.name}.md"), card_text(about))
    say(f"{file}: {output} of {about['network']['name']}; what it is stands in {file.name}.md and in its metadata")
    return file


def check_writable(file: Path) -> None:
    """ValueError where `file` is a folder or lies below a file: before the network is converted, not after."""
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file in it, such as {file / 'run.onnx'}")
    for_project(file.parent)


def card(run: TrainedRun, weights: Path, output: Output, any_size: bool, licence: str | None = None) -> dict[str, Any]:
    """What is to be known of the exported file: the same in its metadata and in the Markdown beside it."""
    state, (height, width) = checkpoint.load(weights), run.size
    # Of a run of version 0.1 that has not ended there is neither.
    record = read_json(weights.with_name(f"{run.stem}.json")) or {}
    record = record or read_json(weights.with_name(f"{run.stem}.config.json")) or {}
    config, data = state["config"], record.get("dataset", {})
    if output == "labels":
        shape, kind = "N, height, width", "uint8, train ids"
    else:
        shape, kind = "N, 19, height, width", "float32, before softmax"
    return {
        "run": {"name": run.stem, "title": record.get("title"), "loss": record.get("loss"), "seed": config.get("seed")},
        "network": {
            "name": config["model"],
            "output_stride": run.model.stride,
            "parameters": count_parameters(run.model)[0],
            "started_from": state["weights"].get("source", "not recorded"),
        },
        "input": {"name": INPUT, "shape": "N, height, width, 3", "type": "uint8, RGB", "any_size": any_size}
        | {"height": height, "width": width},
        "output": {"name": output, "shape": shape, "type": kind},
        "classes": [{"name": c.name, "train_id": c.train_id, "id": c.id, "color": list(c.color)} for c in CLASSES],
        "data": {
            "name": data.get("name", run.folder),
            "synthetic": data.get("synthetic"),
            "subset": data.get("subset"),
            "training_images": data.get("train"),
            "validation_images": data.get("val"),
            "fingerprint": data.get("fingerprint"),
            "terms": licence or terms(data),
        },
        "scale": config.get("preset", "not recorded"),
        "mIoU": {
            "percent": state.get("best", {}).get("val_mIoU"),
            "epoch": state.get("best", {}).get("epoch"),
            "epochs": config.get("epochs"),
            "images": data.get("val_each_epoch"),
            "finished": record.get("finished", False),
            "precision": {"off": "float32"}.get(config["amp"], config["amp"]),
            "tta": run.tta,
        },
        "written_with": {"deeplab-losses": __version__, "torch": torch.__version__},
    }


def terms(data: Mapping[str, Any]) -> str:
    """On what terms the data may be used, as far as the kit knows; `data` is what a run records of it."""
    if data.get("synthetic"):
        return "drawn by the kit itself: MIT, as the kit"
    if data and not data.get("subset"):
        return CITYSCAPES_TERMS
    return "not known here: ask whoever published the data before you pass the file on"


def card_text(about: Mapping[str, Any]) -> str:
    """The card as Markdown; about: what `card` returns."""
    run, network, data, found = (about[name] for name in ("run", "network", "data", "mIoU"))
    image, result = about["input"], about["output"]
    made = (
        "synthetic images" if data["synthetic"] else data["subset"] or ("as published" if data["fingerprint"] else "")
    )
    stride = network["output_stride"]
    sizes = (
        f"any size, best with sides that are multiples of {stride}" if image["any_size"] else "and for this size alone"
    )
    rows = {
        "run": f"`{run['name']}`" + (f": {run['title']}, `{run['loss']}`" if run["title"] else ""),
        "network": f"`{network['name']}`, output stride {stride}, {network['parameters']:,} parameters",
        "started from": network["started_from"],
        "data": ", ".join(filter(None, (data["name"], made, images_of(data)))),
        "scale": f"{about['scale']}, {image['width']}x{image['height']}",
        "validation mIoU": miou_text(found),
        "terms of the data": data["terms"],
        "input": f"`{image['name']}`: {image['type']}, ({image['shape']}); trained at height {image['height']}, width "
        f"{image['width']}, {sizes}. Normalisation is inside",
        "output": f"`{result['name']}`: {result['type']}, ({result['shape']}); upsampling is inside",
        "written with": ", ".join(f"{name} {version}" for name, version in about["written_with"].items()),
    }
    facts = "".join(f"| {name} | {text} |\n" for name, text in rows.items())
    classes = "".join(
        f"| {c['train_id']} | {c['name']} | {c['id']} | {', '.join(map(str, c['color']))} |\n" for c in about["classes"]
    )
    return (
        f"# {run['name']}.onnx\n\n| | |\n|---|---|\n{facts}\n"
        "The file's metadata hold the same, as JSON. Every pixel gets a class: the network knows no void.\n\n"
        f"| train id | class | label id of Cityscapes | colour (RGB) |\n|---|---|---|---|\n{classes}"
    )


def images_of(data: Mapping[str, Any]) -> str:
    """How many images trained the run and tested it."""
    if data["training_images"] is None:
        return "images not recorded"
    return f"{data['training_images']:,} training and {data['validation_images']:,} validation images"


def miou_text(found: Mapping[str, Any]) -> str:
    """The mIoU of the weights, and of what it is."""
    if found["percent"] is None:
        return "not recorded"
    images = f" on {found['images']:,} validation images" if found["images"] else ""
    views = "" if found["tta"] == "none" else f", tested with tta={found['tta']}, which is not in this file"
    ended = "" if found["finished"] else "; the run has not ended"
    best = f"the best epoch, {found['epoch']} of {found['epochs']}"
    return f"{found['percent']:.2f} %{images} ({best}, measured by the run in {found['precision']}{views}){ended}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deeplab_lib.onnx_export", description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help=f"the run: its name with folder, a file of it such as <run>{ENDING}")
    parser.add_argument("--out", help="the file to write; without it <run>.onnx beside the run's files")
    parser.add_argument("--output", default="labels", choices=get_args(Output), help="what the file computes")
    parser.add_argument("--licence", help="terms of the data, where the kit does not know them")
    given = parser.parse_args(arguments)
    export_onnx(given.run, given.out, given.output, given.licence)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
