"""What a notebook shows while a run trains: a progress bar, curves and predictions that update in place.

In text output (papermill's log, a terminal, a run of several processes) it is one line an epoch and a heartbeat,
however fast the steps are.
"""

import io
import time

import numpy as np
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import HTML, Image, display

from deeplab_lib.common import devices
from deeplab_lib.common.text import duration
from deeplab_lib.plotting import run_figures
from deeplab_lib.training.pace import epoch_seconds

BAR_SECONDS, HEARTBEAT_SECONDS = 0.5, 60
DRAWING_SHARE = 0.03  # of the time, at most, goes into drawing


class Live:
    """Watches a run for `train.fit(config, callback=Live())` and shows how it goes."""

    def __init__(self):
        self.bar, self.figure, self.samples = None, None, None
        self.bar_at = self.beat_at = 0.0

    def __call__(self, event, run):
        getattr(self, f"_{event}")(run)

    def _start(self, run):
        print(f"{run.files.stem} {self._beginning(run)}")
        for warning in run.warnings:
            print(f"note: {warning}")
        self.started, self.first_step, self.beat_at = time.monotonic(), run.step, time.monotonic()
        self.drawing = 0.0
        self.bar, self.figure, self.samples = (place() for _ in range(3))
        if run.history:
            self._draw(run)

    def _beginning(self, run):
        """Where the run stands and how long the rest should take."""
        if run.epoch > run.config.epochs:
            return "is trained; what is left is its summary"
        going = f"continues at epoch {run.epoch}, step {run.step_in_epoch}" if run.step else "starts"
        epoch = epoch_seconds(run.config, run.model, run.steps_per_epoch, run.data.val_each_epoch)
        left = duration(epoch * (run.config.epochs - run.step / run.steps_per_epoch))
        return f"{going}; about {left} to go on this machine ({run.config.device})"

    def _step(self, run):
        now = time.monotonic()
        if now - self.bar_at > BAR_SECONDS:
            self.bar_at = now
            self.bar.update(HTML(self._bar(run)))
        if now - self.beat_at > HEARTBEAT_SECONDS:
            self.beat_at = now
            print(f"  {self._position(run)}")

    _validate = _step

    def _epoch(self, run):
        row, epochs = run.history[-1], run.config.epochs
        print(
            f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}  train loss {row['train_loss']:7.4f}  "
            f"val mIoU {row['val_mIoU']:5.2f} %  lr {row['lr']:<7.2g}  {row['images_per_s']:5.1f} images/s  "
            f"{duration(self._left(run))} left"
        )
        self.beat_at = time.monotonic()
        if run.epoch > run.config.epochs or self.drawing < DRAWING_SHARE * (time.monotonic() - self.started):
            self._draw(run)

    def _finish(self, run):
        self.bar.update(HTML(self._bar(run)))

    def _left(self, run):
        """Seconds to go, from the pace of this session."""
        done = run.step - self.first_step
        return (time.monotonic() - self.started - self.drawing) / max(done, 1) * (run.schedule.total_steps - run.step)

    def _position(self, run):
        """Where the run stands and how long it will take, in words."""
        if run.epoch > run.config.epochs:
            return f"{run.config.epochs} epochs done"
        phase = "validating" if run.step_in_epoch == run.steps_per_epoch else f"step {run.step_in_epoch}"
        pace = (run.step - self.first_step) * run.config.batch_size / max(time.monotonic() - self.started, 1e-9)
        where = f"epoch {run.epoch}/{run.config.epochs}, {phase} of {run.steps_per_epoch}"
        return f"{where}, {pace:.1f} images/s, {duration(self._left(run))} left"

    def _bar(self, run):
        share = run.step / run.schedule.total_steps
        return (
            '<div style="padding: 4px 8px; font-variant-numeric: tabular-nums">'
            f'<progress value="{share:.4f}" max="1" style="width: 40%; vertical-align: middle"></progress>'
            f"&ensp;{self._position(run)}</div>"
        )

    def _draw(self, run):
        """Redraw the curves, and the predictions on two validation images."""
        if isinstance(self.figure, NullDisplay):
            return
        start = time.monotonic()
        try:
            self.figure.update(png(run_figures.curves(run.history, run.config)))
            self.samples.update(png(self._predictions(run)))
        except Exception as error:  # of any kind: no picture is worth a training
            reason = (str(error).splitlines() or [""])[0]
            print(f"note: not drawn ({type(error).__name__}: {reason}); the training goes on")
        self.drawing += time.monotonic() - start

    @torch.inference_mode()
    def _predictions(self, run):
        data = run.data.val
        numbers = np.linspace(0, len(data) - 1, 2).astype(int)
        stored = devices.memory_format(run.fast_paths)  # as in training: a compiled network would be compiled once more
        images = torch.stack([data[number][0] for number in numbers]).to(run.device, memory_format=stored)
        mode = run.eval_model.training
        try:
            run.eval_model.eval()
            predicted = run.views(images).predict(run.config.size).to(torch.uint8).cpu().numpy()
        finally:
            run.eval_model.train(mode)
        return run_figures.predictions(data, [data.pairs[number].name for number in numbers], predicted)


class NullDisplay:
    """Stands for a place in the notebook where there is none: in a script, and in a process that a notebook started."""

    def update(self, shown):
        """Show nothing."""


def place():
    """A new place in the notebook's output, to be updated."""
    return display(HTML(""), display_id=True) if InteractiveShell.initialized() else NullDisplay()


def png(figure):
    """A matplotlib figure as a notebook image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image(buffer.getvalue())
