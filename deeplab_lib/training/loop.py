"""Training: one run from a `Config` to its files, with one visible loop that can be stopped and continued anywhere.

Every random choice derives from (seed, epoch), so the state of a run is its weights, its optimiser and its position.
"""

import time
from typing import Any

import torch

from deeplab_lib.common.errors import RunStopped, Stop, short_traceback
from deeplab_lib.common.files import jsonable
from deeplab_lib.common.seeds import key
from deeplab_lib.config import Config, as_begun
from deeplab_lib.data.cityscapes import IDENTIFIED_BY
from deeplab_lib.data.dataset import Data, check_belongs, check_data, prepare_data
from deeplab_lib.losses import WeightedLoss
from deeplab_lib.models import weights
from deeplab_lib.models.weights import Pretrained
from deeplab_lib.training import distributed, record, tensorboard
from deeplab_lib.training.distributed import first_only
from deeplab_lib.training.earlier import UNSAID
from deeplab_lib.training.endings import explain_errors
from deeplab_lib.training.evaluate import Evaluation, evaluate_run
from deeplab_lib.training.lock import run_lock
from deeplab_lib.training.optimizer import apply_schedule, lay_out_momentum
from deeplab_lib.training.run_folder import RunFolder
from deeplab_lib.training.state import State
from deeplab_lib.training.summary import best_state, describe, epoch_row, image_results, summarize
from deeplab_lib.training.trainer import Callback, Event, Trainer


def silent(event: Event, trainer: Trainer) -> None:
    """Show nothing."""


@short_traceback
def fit(config: Config, data: Data | None = None, callback: Callback = silent) -> RunFolder:
    """Train the run of `config`, or continue it, or find it finished; returns its files, its `summary` among them.

    data: what `prepare_data` made of the same `config`, where that is at hand. callback: called as
    `callback(event, trainer)`, event being "start", "step", "validate", "epoch" or "finish"; with several processes in
    the first of them, to which it is pickled. Raises ValueError for wrong input before anything is trained and
    RunStopped when the run is cut short.
    """
    return complete(config, data, tensorboard.asked_for(config, callback))[0]


def complete(config: Config, data: Data | None, callback: Callback) -> tuple[RunFolder, str | None]:
    """What `fit` does; returns its files, and the name of a signal that came too late to cut this run short, if any."""
    distributed.check_guarded()
    config = as_begun(config)
    late, folder = None, RunFolder.of(config)
    with run_lock(folder):
        pretrained = weights.prepare_weights(config, starting_weights(config, callback))
        if data is None:
            data = prepare_data(config, pretrained.normalization)
        check_belongs(data, config, pretrained.normalization)
        identity = identify(config, data, pretrained)
        if not config.resume:  # once everything else has been found in order
            folder.move_aside()
        if (summary := folder.summary) is None:
            with Stop.listening() as stop:
                distributed.launch(config, train_run, (config, folder, data, pretrained, identity, callback), stop)
            late = stop.requested
        else:
            refuse_changes(folder, summary.get("identity", {}), identity)
    return folder, late


def starting_weights(config: Config, callback: Callback) -> str:
    """What the run of `config` starts from: `pretrained`, or the best weights of its first stage, trained if need be.

    The stage is a run of its own with its own files, which continues like any other.
    """
    first = config.first_stage
    if first is None:
        return config.pretrained
    check_data(config)
    folder, late = complete(first, None, callback)
    if late:
        raise RunStopped(f"stopped by {late} between the two stages; the first is complete; run it again to continue")
    return str(folder.best)


def train_run(*parts: Any) -> None:
    """Make a `Trainer` of its parts and bring the run to its end: what every process of a run does."""
    trainer = Trainer(*parts)
    with explain_errors(trainer, save):
        restore(trainer)
        train(trainer)
        finish(trainer)


def train(trainer: Trainer) -> None:
    """Train every epoch that is left, evaluating and recording after each."""
    config, state = trainer.config, trainer.state
    trainer.callback("start")
    while state.epoch <= config.epochs:
        train_one_epoch(trainer, state)
        close_epoch(trainer, evaluate_run(trainer, full=state.epoch == config.epochs))
        trainer.callback("epoch")
    if not distributed.from_first(trainer.folder.has_images):  # lost between the last epoch and the summary
        write_images(trainer, evaluate_run(trainer, full=True))


def train_one_epoch(trainer: Trainer, state: State) -> None:
    """Train from where the run stands to the end of its epoch.

    For every batch: what the schedule says of this step; the loss and its gradient, part by part; one step of the
    optimiser. A batch may be taken in parts and shared by several processes: the loss is that of the whole batch.
    """
    model, loss, optimizer, scaler = trainer.model, trainer.loss, trainer.optimizer, trainer.scaler
    model.train()
    for numbers, images, labels in trainer.training_batches(state.epoch, state.step_in_epoch):
        now = trainer.schedule.at(state.step)
        apply_schedule(now, optimizer, loss, model)  # learning rate, loss weights, frozen parts
        torch.manual_seed(key(trainer.config.seed, "step", state.step))  # of dropout

        terms = images.new_zeros(len(loss.losses))
        for part in trainer.forward(images, labels):
            raw = {name: term * part.share for name, term in loss.terms(part.logits, part.labels).items()}
            scaler.scale(loss.total(raw)).backward()
            terms = terms + torch.stack(list(raw.values())).detach()
            state.confusion.update(part.targets, part.predictions)

        trainer.finite.check(terms, state.epoch, state.step_in_epoch + 1, numbers)
        distributed.sum_gradients(model)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        trainer.average.update(model, state.step)

        state.loss_sums += step_losses(terms, loss)
        state.step_in_epoch += 1
        trainer.callback("step")
        save_if_due(trainer)
        distributed.sync_stop(trainer.stop).check()
    trainer.finite.check_pending()
    state.training_seconds = state.training_seconds or state.clock.elapsed()  # known, if evaluation was cut short


def step_losses(terms: torch.Tensor, loss: WeightedLoss) -> torch.Tensor:
    """Raw terms, weighted terms and their total, to be averaged over the epoch's steps."""
    weighted = torch.stack([terms[i] * loss.weights[name] for i, name in enumerate(loss.losses)])
    return torch.cat([terms, weighted, weighted.sum()[None]])


def close_epoch(trainer: Trainer, evaluation: Evaluation) -> None:
    """Record the epoch: best weights, checkpoint, then the CSV, each whole."""
    state, row = trainer.state, epoch_row(trainer, evaluation)
    state.history.append(row)
    if row["val_mIoU"] > state.best["val_mIoU"]:
        state.best = {"epoch": state.epoch, "val_mIoU": row["val_mIoU"]}
        first_only(trainer.folder.save_best)(best_state(trainer))
    if state.epoch == trainer.config.epochs:
        write_images(trainer, evaluation)
    state.start_epoch(state.epoch + 1)
    save(trainer)
    first_only(trainer.folder.write_table)(state.history)


@first_only
def write_images(trainer: Trainer, evaluation: Evaluation) -> None:
    """Write the per-image results of the last epoch."""
    trainer.folder.write_images(image_results(trainer, evaluation))


@first_only
def save(trainer: Trainer, reason: str = "running") -> None:
    """Write the checkpoint: everything a later session needs to go on exactly from here."""
    trainer.finite.check_pending()
    state = trainer.state
    state.sessions[-1] |= {"ended": record.now(), "reason": reason}
    # The weights' origin is for whoever starts another run from this file.
    constant = {"identity": trainer.identity, "weights": trainer.pretrained.as_dict()}
    trainer.folder.save(constant | state.as_dict())
    state.saved_at = time.monotonic()


def save_if_due(trainer: Trainer) -> None:
    """Write the checkpoint if the last one is `checkpoint_minutes` old."""
    if time.monotonic() - trainer.state.saved_at > 60 * trainer.config.checkpoint_minutes:
        save(trainer)


def restore(trainer: Trainer) -> None:
    """Go back to the newest good checkpoint, if there is one; raises ValueError if it is of another run."""
    folder, state = trainer.folder, trainer.state
    stored, problems = distributed.from_first(folder.load)
    if problems:
        went_on = "continuing from the previous checkpoint" if stored else "starting over"
        state.warnings += [f"{problem}; {went_on}" for problem in problems]
        if stored:
            first_only(folder.keep_damaged)()
    if stored:
        refuse_changes(folder, stored["identity"], trainer.identity)
        state.load(stored)
        for group in trainer.optimizer.param_groups:
            group["fused"] = "fused" in trainer.fast_paths
        lay_out_momentum(trainer.optimizer)
        # There may be no step left in this epoch, or at all, to set what evaluation and summary report.
        now = trainer.schedule.at(max(state.step - 1, 0))
        apply_schedule(now, trainer.optimizer, trainer.loss, trainer.model)
        note_continuation(state)
    elif (problems or folder.csv.exists()) and (aside := first_only(folder.move_aside)()):
        state.warnings.append(f"files of {folder.stem} without a usable checkpoint are kept as {aside}.*")
    state.sessions.append(record.session(trainer.config, state.epoch))
    first_only(folder.start)(describe(trainer))
    first_only(folder.write_table)(state.history)


def note_continuation(state: State) -> None:
    """Mark a session that was killed as such, and warn of changed code."""
    last = state.sessions[-1]
    if last["reason"] == "running":
        last["reason"] = "killed"
    if last["code"] != record.code_sha256():
        state.warnings.append(f"the library's code changed before epoch {state.epoch} (now {record.commit()})")


@first_only
def finish(trainer: Trainer) -> None:
    """Write the summary, last and once: its presence says that the run is complete."""
    save(trainer, reason="finished")
    trainer.folder.finish(summarize(trainer))
    trainer.callback("finish")


def identify(config: Config, data: Data, pretrained: Pretrained) -> dict[str, Any]:
    """All that decides a run's numbers; two sessions of one run must agree in it."""
    source = weights.sha256(pretrained.path) if pretrained.path else "from scratch"
    # Weights are identified by their content, not by where they lie.
    parameters = {name: value for name, value in config.result_dict().items() if name != "pretrained"}
    dataset = {"dataset": data.about["fingerprint"], "dataset_told_by": IDENTIFIED_BY}
    return jsonable(parameters | dataset | {"weights": source})


@short_traceback
def refuse_changes(folder: RunFolder, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise ValueError, naming each difference, when a run on disk is not the one asked for."""
    if changed := record.differences(UNSAID | old, new):
        raise ValueError(
            f"{folder.path('')} holds a run that differs in {'; '.join(changed)}. Give another out_dir, "
            f"move {folder.stem}.* elsewhere, or resume=False, which moves a run's own files aside"
        )
