"""What a notebook shows while a run trains: a progress bar, curves and predictions that update in place.

In text output (papermill's log, a terminal, a run of several processes) it is one line an epoch and a heartbeat,
however fast the steps are.
"""

import io
import time
from typing import TYPE_CHECKING

import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import HTML, DisplayHandle, Image, display
from matplotlib.figure import Figure

from deeplab_lib.common.text import duration
from deeplab_lib.plotting import run_figures
from deeplab_lib.plotting.style import styled
from deeplab_lib.training.evaluate import predict_validation
from deeplab_lib.training.pace import epoch_seconds

if TYPE_CHECKING:
    from deeplab_lib.training.trainer import Event, Trainer

BAR_SECONDS, HEARTBEAT_SECONDS = 0.5, 60
DRAWING_SHARE = 0.03  # of the time, at most, goes into drawing


class Live:
    """Watches a run for `train.fit(config, callback=Live())` and shows how it goes."""

    def __init__(self) -> None:
        self.bar: DisplayHandle | NullDisplay = NullDisplay()
        self.figure: DisplayHandle | NullDisplay = NullDisplay()
        self.samples: DisplayHandle | NullDisplay = NullDisplay()
        self.bar_at = self.beat_at = self.started = self.drawing = 0.0
        self.first_step = 0

    def __call__(self, event: "Event", trainer: "Trainer", /) -> None:
        getattr(self, f"_{event}")(trainer)

    def _start(self, trainer: "Trainer") -> None:
        state = trainer.state
        print(f"{trainer.folder.stem} {self._beginning(trainer)}")
        for warning in state.warnings:
            print(f"note: {warning}")
        self.started, self.first_step, self.beat_at = time.monotonic(), state.step, time.monotonic()
        self.drawing = 0.0
        self.bar, self.figure, self.samples = (place() for _ in range(3))
        if state.history:
            self._draw(trainer)

    def _beginning(self, trainer: "Trainer") -> str:
        """Where the run stands and how long the rest should take."""
        state = trainer.state
        if state.epoch > trainer.config.epochs:
            return "is trained; what is left is its summary"
        going = f"continues at epoch {state.epoch}, step {state.step_in_epoch}" if state.step else "starts"
        epoch = epoch_seconds(trainer.config, trainer.model, trainer.steps_per_epoch, trainer.data.val_each_epoch)
        left = duration(epoch * (trainer.config.epochs - state.step / trainer.steps_per_epoch))
        return f"{going}; about {left} to go on this machine ({trainer.config.device})"

    def _step(self, trainer: "Trainer") -> None:
        now = time.monotonic()
        if now - self.bar_at > BAR_SECONDS:
            self.bar_at = now
            self.bar.update(HTML(self._bar(trainer)))
        if now - self.beat_at > HEARTBEAT_SECONDS:
            self.beat_at = now
            print(f"  {self._position(trainer)}")

    _validate = _step

    def _epoch(self, trainer: "Trainer") -> None:
        state = trainer.state
        row, epochs = state.history[-1], trainer.config.epochs
        print(
            f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}  train loss {row['train_loss']:7.4f}  "
            f"val mIoU {row['val_mIoU']:5.2f} %  lr {row['lr']:<7.2g}  {row['images_per_s']:5.1f} images/s  "
            f"{duration(self._left(trainer))} left"
        )
        self.beat_at = time.monotonic()
        if state.epoch > trainer.config.epochs or self.drawing < DRAWING_SHARE * (time.monotonic() - self.started):
            self._draw(trainer)

    def _finish(self, trainer: "Trainer") -> None:
        self.bar.update(HTML(self._bar(trainer)))

    def _left(self, trainer: "Trainer") -> float:
        """Seconds to go, from the pace of this session."""
        state = trainer.state
        done = state.step - self.first_step
        return (
            (time.monotonic() - self.started - self.drawing)
            / max(done, 1)
            * (trainer.schedule.total_steps - state.step)
        )

    def _position(self, trainer: "Trainer") -> str:
        """Where the run stands and how long it will take, in words."""
        state = trainer.state
        if state.epoch > trainer.config.epochs:
            return f"{trainer.config.epochs} epochs done"
        phase = "validating" if state.step_in_epoch == trainer.steps_per_epoch else f"step {state.step_in_epoch}"
        images = (state.step - self.first_step) * trainer.config.batch_size
        pace = images / max(time.monotonic() - self.started, 1e-9)
        where = f"epoch {state.epoch}/{trainer.config.epochs}, {phase} of {trainer.steps_per_epoch}"
        return f"{where}, {pace:.1f} images/s, {duration(self._left(trainer))} left"

    def _bar(self, trainer: "Trainer") -> str:
        share = trainer.state.step / trainer.schedule.total_steps
        return (
            '<div style="padding: 4px 8px; font-variant-numeric: tabular-nums">'
            f'<progress value="{share:.4f}" max="1" style="width: 40%; vertical-align: middle"></progress>'
            f"&ensp;{self._position(trainer)}</div>"
        )

    def _draw(self, trainer: "Trainer") -> None:
        """Redraw the curves, and the predictions on two validation images."""
        if isinstance(self.figure, NullDisplay):
            return
        start = time.monotonic()
        try:
            self.figure.update(png(run_figures.curves(trainer.state.history, trainer.config)))
            self.samples.update(png(self._predictions(trainer)))
        except Exception as error:  # of any kind: no picture is worth a training
            reason = (str(error).splitlines() or [""])[0]
            print(f"note: not drawn ({type(error).__name__}: {reason}); the training goes on")
        self.drawing += time.monotonic() - start

    def _predictions(self, trainer: "Trainer") -> Figure:
        data = trainer.data.val
        numbers = np.linspace(0, len(data) - 1, 2).astype(int).tolist()
        predicted = predict_validation(trainer, numbers)
        return run_figures.predictions(data, [data.pairs[number].name for number in numbers], predicted)


class NullDisplay:
    """Stands for a place in the notebook where there is none: in a script, and in a process that a notebook started."""

    def update(self, shown: object) -> None:
        """Show nothing."""


def place() -> DisplayHandle | NullDisplay:
    """A new place in the notebook's output, to be updated."""
    return display(HTML(""), display_id=True) if InteractiveShell.initialized() else NullDisplay()


@styled
def png(figure: Figure) -> Image:
    """A matplotlib figure as a notebook image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image(buffer.getvalue())
