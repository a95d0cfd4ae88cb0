"""Made-up exports in the form of the study's logs: run tables of Weights & Biases, the newest epoch first."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EPOCHS, STEPS = 50, 524
WHOLE, FROZEN = 43_795_724, 2_835_724
TEXT_ORDER = sorted(range(19), key=str)  # class_0, class_10, class_11, ..., as such an export sorts its columns


@dataclass
class Export:
    """One run. powers: (first epoch, power). jump: (epoch, factor) of all losses. zeros: class values set to 0."""

    name: str
    lr: float = 1e-4
    powers: tuple = ((1, 0.9),)
    warmup: int = 0
    steps: int = STEPS
    first_classes: tuple | None = None  # 19 val IoUs of epoch 1
    first_train_mIoU: float = 20.0
    last_val_mIoU: float = 50.0
    parameters: int = WHOLE
    latency: tuple = (200.0, 198.0)
    jump: tuple | None = None
    zeros: int = 0
    final_columns: bool = False  # the last epoch in *_final columns alone, its classes empty
    epochs: int = EPOCHS

    def rate(self, epoch):
        """The rate after the last step of an epoch: linear from 1e-6 over the warm-up, then poly over what is left."""
        step, total = epoch * self.steps, self.epochs * self.steps
        if step < self.warmup:
            return 1e-6 + (self.lr - 1e-6) * step / self.warmup
        power = next(power for first, power in reversed(self.powers) if first <= epoch)
        return self.lr * (1 - (step - self.warmup) / (total - self.warmup)) ** power

    def classes(self):
        """Val IoUs (epochs, 19): from those of epoch 1 to the last mIoU, wavering on the way."""
        first = np.array(self.first_classes or np.linspace(10, 40, 19))
        better = self.last_val_mIoU > first.mean()
        share = (self.last_val_mIoU - first.mean()) / (100 - first.mean())
        last = first + (100 - first) * share if better else first * self.last_val_mIoU / first.mean()
        grown = 1 - np.exp(-np.arange(self.epochs) / 8)
        values = first + (last - first) * (grown / grown[-1])[:, None] * (1 + 0.01 * self.waves())[:, None]
        values[:, : self.zeros] = 0
        return values

    def waves(self):
        """What a curve does from epoch to epoch, between -1 and 1; nothing in the first and the last."""
        waves = np.sin(2.1 * np.arange(self.epochs))
        waves[[0, -1]] = 0
        return waves

    def rows(self):
        """The epochs as dictionaries, in order."""
        for epoch, (classes, wave) in enumerate(zip(self.classes(), self.waves(), strict=True), 1):
            loss = (0.3 + 0.7 / epoch + 0.001 * wave) * (self.jump[1] if self.jump and epoch >= self.jump[0] else 1)
            train = self.first_train_mIoU + (65 - self.first_train_mIoU) * (1 - np.exp((1 - epoch) / 8)) + 0.2 * wave
            row = {"Name": f"epoch_{epoch}", "State": "finished", "Notes": "-", "Tags": ""}
            row |= {"Created": f"2025-05-{1 + epoch // 24:02d}T{epoch % 24:02d}:00:00.000Z", "Runtime": 1500 + epoch}
            row |= {"epoch": epoch, "lr": self.rate(epoch), "loss": loss}
            last = epoch == self.epochs
            ending = "_final" * (last and self.final_columns)
            row |= {f"train_loss{ending}": loss, f"val_loss{ending}": 1.1 * loss}
            row |= {f"train_mIoU{ending}": train, f"val_mIoU{ending}": float(classes.mean())}
            for c, value in enumerate(classes):
                row |= {} if ending else {f"class_{c}_train": value + 1, f"class_{c}_val": value}
            if last:
                row |= {"train_latency": self.latency[0], "val_latency": self.latency[1]}
                row |= {"train_params": self.parameters, "val_params": self.parameters, "val_flops": 374.66}
            yield row

    def write(self, folder):
        """Write the export as `<folder>/<name>.csv`; returns its path."""
        path, rows = Path(folder) / f"{self.name}.csv", list(self.rows())
        classes = [f"class_{c}_{split}" for c in TEXT_ORDER for split in ("train", "val")]
        others = [name for row in rows for name in row if not name.startswith("class_")]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*dict.fromkeys(others), *classes], quoting=csv.QUOTE_ALL, restval="")
            writer.writeheader()
            writer.writerows(reversed(rows))
        return path
