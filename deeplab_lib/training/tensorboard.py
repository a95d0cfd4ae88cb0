"""A run's curves and predictions for TensorBoard (an extra), which shows several runs in one view.

`tensorboard --logdir runs/<dataset>/tensorboard`; a run writes into a folder there that has its name. The axis is the
optimiser step in all of it, so that a run which continues replaces exactly what it does again.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_lib.common.files import EVENTS
from deeplab_lib.labels import CLASS_NAMES, colorize
from deeplab_lib.training.evaluate import predict_validation

if TYPE_CHECKING:
    from deeplab_lib.config import Config
    from deeplab_lib.training.trainer import Callback, Event, Trainer

FOLDER = "tensorboard"
SHOWN, WIDEST = 3, 512  # validation images in the panel, and the pixels that each of its pictures is wide at most
TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "val_ce": "loss/validation_cross_entropy",
    "train_mIoU": "mIoU/train",
    "val_mIoU": "mIoU/validation",
    "val_pixel_accuracy": "pixel_accuracy/validation",
    "images_per_s": "cost/images_per_s",
    "peak_memory_MB": "cost/peak_memory_MB",
    "trainable_parameters": "cost/trainable_parameters",
}


class TensorBoard:
    """A callback that writes scalars an epoch, the schedule a step, and a panel of predictions.

    What a killed run had written beyond its checkpoint, or had not written yet, is written again when it continues:
    from the last step of its last whole epoch on, which TensorBoard then drops.
    """

    def __init__(self) -> None:
        self.writer: Any = None
        self.failed = False

    def __call__(self, event: "Event", trainer: "Trainer") -> None:
        if self.failed or (event != "start" and self.writer is None):
            return
        try:
            getattr(self, f"_{event}", lambda trainer: None)(trainer)
        except Exception as error:  # of any kind: no curve is worth a training
            self.failed, reason = True, (str(error).splitlines() or [""])[0]
            print(f"note: TensorBoard's files end here ({type(error).__name__}: {reason}); the training goes on")

    def _start(self, trainer: "Trainer") -> None:
        from torch.utils.tensorboard import SummaryWriter  # not at the top: an extra, and asked for

        folder, state = log_folder(trainer.config), trainer.state
        begun = wait_for_a_later_name(folder)
        first = last_step(len(state.history), trainer) if begun and state.history else 0
        self.writer = SummaryWriter(folder, purge_step=first)
        if not first:
            self.writer.add_text("run", about(trainer), 0)
        for step in range(first, state.step):
            self._schedule(trainer, step)
        for row in state.history:
            if last_step(row["epoch"], trainer) >= first:
                self._scalars(trainer, row)
        if state.history and state.step_in_epoch < trainer.steps_per_epoch:  # else the epoch's own follows at once
            self._panel(trainer, state.step - 1)
        self.writer.flush()

    def _step(self, trainer: "Trainer") -> None:
        self._schedule(trainer, trainer.state.step - 1)

    def _epoch(self, trainer: "Trainer") -> None:
        row = trainer.state.history[-1]
        self._scalars(trainer, row)
        self._panel(trainer, last_step(row["epoch"], trainer))
        self.writer.flush()

    def _finish(self, trainer: "Trainer") -> None:
        self.writer.close()

    def _schedule(self, trainer: "Trainer", step: int) -> None:
        now = trainer.schedule.at(step)
        values = {"lr": now.lr, "power": now.power, "frozen_parts": len(now.frozen)}
        for name, value in (values | {f"weight_{term}": weight for term, weight in now.weights.items()}).items():
            self.writer.add_scalar(f"schedule/{name}", value, step)

    def _scalars(self, trainer: "Trainer", row: Mapping[str, Any]) -> None:
        for tag, value in scalars(row):
            self.writer.add_scalar(tag, value, last_step(row["epoch"], trainer))

    def _panel(self, trainer: "Trainer", step: int) -> None:
        self.writer.add_image("predictions/image_labels_prediction", panel(trainer), step, dataformats="HWC")


def log_folder(config: "Config") -> Path:
    """Where a run writes."""
    return Path(config.out_dir) / FOLDER / config.stem


def wait_for_a_later_name(folder: Path) -> bool:
    """Whether there are event files already; if so, returns in a later second than the last of them was begun in.

    TensorBoard reads a folder's files in the order of their names, which hold that second and then the process.
    """
    seconds = [int(path.name.split(".")[3]) for path in folder.glob(f"{EVENTS}.*")]
    if seconds:
        time.sleep(min(1.0, max(0.0, max(seconds) + 1 - time.time())))
    return bool(seconds)


def last_step(epoch: int, trainer: "Trainer") -> int:
    """The step (0-based) at which an epoch ends: where its scalars stand."""
    return epoch * trainer.steps_per_epoch - 1


def scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """`(tag, value)` of what an epoch's row holds, losses and IoU of single classes too; without what is NaN."""
    for column, value in row.items():
        tag = TAGS.get(column)
        if found := re.fullmatch(r"class_(\d+)_val", column):
            tag = f"validation_IoU/{CLASS_NAMES[int(found[1])]}"
        elif column.startswith("loss_"):
            tag = f"loss_terms/{column.removeprefix('loss_')}"
        if tag and not math.isnan(value):
            yield tag, value


def about(trainer: "Trainer") -> str:
    """What the run is, as Markdown."""
    config, data = trainer.config, trainer.data.about
    made = " (synthetic)" if data["synthetic"] else ""
    return (
        f"**{config.title}**: `{config.expression}`, {config.model}, {config.preset} scale, seed {config.seed}, on "
        f"{data['name']}{made}: {data['train']} training and {data['val']} validation images. {config.about}"
    )


def panel(trainer: "Trainer") -> np.ndarray:
    """uint8 `(H, W, 3)`: image, labels and prediction side by side, of a few validation images one below the other."""
    data = trainer.data.val
    numbers = np.linspace(0, len(data) - 1, min(SHOWN, len(data))).astype(int).tolist()
    rows = []
    for number, predicted in zip(numbers, predict_validation(trainer, numbers), strict=True):
        image, labels = data.raw(number)
        rows.append(np.concatenate([image, colorize(labels), colorize(predicted)], axis=1))
    every = -(-trainer.config.image_width // WIDEST)
    return np.concatenate(rows)[::every, ::every]


class Together:
    """Several callbacks as one."""

    def __init__(self, *callbacks: "Callback") -> None:
        self.callbacks = callbacks

    def __call__(self, event: "Event", trainer: "Trainer") -> None:
        for callback in self.callbacks:
            callback(event, trainer)


def asked_for(config: "Config", callback: "Callback") -> "Callback":
    """`callback`, and with it a `TensorBoard` where the configuration says so."""
    return Together(callback, TensorBoard()) if config.tensorboard else callback
