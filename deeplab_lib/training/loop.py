"""Training: one run from a `Config` to its files, with one visible loop that can be stopped and continued anywhere.

Every random choice derives from (seed, epoch), so the state of a run is its weights, its optimiser and its position.
"""

import math
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from deeplab_lib.common import devices
from deeplab_lib.common.errors import (
    RunStopped,
    Stop,
    StopRequested,
    is_disk_trouble,
    is_out_of_memory,
    is_out_of_shared_memory,
    leave_signals,
    memory_advice,
    short_traceback,
)
from deeplab_lib.common.files import file_sha256, jsonable, read_json, write_json
from deeplab_lib.common.seeds import key
from deeplab_lib.config import as_begun
from deeplab_lib.data import augment
from deeplab_lib.data.cityscapes import IDENTIFIED_BY
from deeplab_lib.data.dataset import check_data, prepare_data
from deeplab_lib.losses import CrossEntropyLoss, WeightedLoss, make_loss
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models import weights
from deeplab_lib.models.deeplabv2 import count_parameters
from deeplab_lib.models.placement import kept_out, to_device
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.views import Views, training_views
from deeplab_lib.training import checkpoint, distributed, pace, record
from deeplab_lib.training.checkpoint import RunFiles
from deeplab_lib.training.distributed import first_only
from deeplab_lib.training.earlier import UNSAID
from deeplab_lib.training.ema import Average
from deeplab_lib.training.evaluate import evaluate
from deeplab_lib.training.optimizer import HEAD_FACTOR, lay_out_momentum, make_optimizer
from deeplab_lib.training.summary import best_state, readable_npz, summarize, write_npz


def quiet(event, run):
    """Show nothing."""


def fit(config, callback=quiet):
    """Train the run of `config`, or continue it, or find it finished; returns the path of its JSON.

    callback: called as `callback(event, run)`, event being "start", "step", "validate", "epoch" or "finish"; with
    several processes in the first of them, to which it is pickled.
    Raises ValueError for wrong input before anything is trained and RunStopped when the run is cut short.
    """
    return complete(config, callback)[0]


def complete(config, callback):
    """What `fit` does; returns its path, and the name of a signal that came too late to cut this run short, if any."""
    distributed.check_guarded()
    config = as_begun(config)
    late, files = None, RunFiles(Path(config.out_dir), config.stem)
    with checkpoint.run_lock(files):
        pretrained = weights.prepare(config, starting_weights(config, callback))
        data = prepare_data(config, pretrained.normalization)
        identity = identify(config, data, pretrained)
        if not config.resume:  # once everything else has been found in order
            files.move_aside()
        summary = read_json(files.path(".json"))
        if summary is None:
            with Stop.listening() as stop:
                distributed.launch(config, train_run, (config, files, data, pretrained, identity, callback), stop)
            late = stop.requested
        else:
            refuse_changes(files, summary.get("identity", {}), identity)
    return files.path(".json"), late


def starting_weights(config, callback):
    """What the run of `config` starts from: `pretrained`, or the best weights of its first stage, trained if need be.

    The stage is a run of its own with its own files, which continues like any other.
    """
    first = config.first_stage
    if first is None:
        return config.pretrained
    check_data(config)
    path, late = complete(first, callback)
    if late:
        raise RunStopped(f"stopped by {late} between the two stages; the first is complete; run it again to continue")
    return path.with_suffix(".best.pt")


def train_run(*parts):
    """Make a `Run` of its parts and bring it to its end: what every process of a run does."""
    run = Run(*parts)
    with run.explain_errors():
        run.restore()
        run.train()
        run.finish()


class Run:
    """A run in progress: what it is made of, where it stands, and the loop.

    With several processes each has one, alike in all but the images it computes on; the first writes and shows.
    """

    def __init__(self, config, files, data, pretrained, identity, callback, stop):
        self.config, self.files, self.data, self.identity = config, files, data, identity
        self.pretrained, self.stop, self.callback = pretrained, stop, self.untimed(first_only(callback))
        self.device = torch.device(config.device)
        self.fast_paths = config.fast_paths
        devices.set_up(config.device, self.fast_paths, config.deterministic)
        self.loss, self.validation_loss = make_loss(config.expression), with_ce(make_loss(config.expression))
        for loss in (self.loss, self.validation_loss):
            loss.set_class_counts(data.class_counts)
        self.steps_per_epoch = data.train_each_epoch // config.batch_size
        self.schedule = config.poly(self.steps_per_epoch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(config.seed, "weights"))
            options = {"bn": config.bn, "output_stride": config.output_stride}
            self.model = make_model(config.model, stride_in=pretrained.stride_in, **options)
        self.weights = weights.load_pretrained(self.model, pretrained.path) if pretrained.path else None
        self.model = distributed.synchronize_batch_norm(self.model)
        to_device(self.model, self.device, self.fast_paths)
        head_factor = 1 if config.follows == "code" else HEAD_FACTOR
        self.optimizer = make_optimizer(self.model, config.lr, "fused" in self.fast_paths, head_factor)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.average = Average(self.model, config.ema) if config.ema else None
        self.pending_check = None
        self.history, self.sessions, self.best = [], [], {"epoch": 0, "val_mIoU": -1.0}
        noted = pretrained.warning, data.about.get("label_files", {}).get("warning"), kept_out(self.model, config.amp)
        self.warnings = [text for text in noted if text]
        if self.schedule.warmup_steps >= self.schedule.total_steps:
            steps = f"{self.schedule.warmup_steps} steps, the whole training {self.schedule.total_steps}"
            self.warnings.append(f"the warm-up takes {steps}: the initial learning rate is never reached")
        devices.forget_peak_memory(self.device)
        self.start_epoch(1)

    # -- the loop ------------------------------------------------------------------------------------------------

    def train(self):
        """Train every epoch that is left, validating and recording after each."""
        self.callback("start", self)
        if self.config.compile:
            passes = self.config.accumulate * (self.schedule.total_steps - self.step)
            pace.compile_if_worth(self.config, self.model, passes)
        while self.epoch <= self.config.epochs:
            self.train_epoch()
            self.evaluation = evaluate(self, full=self.epoch == self.config.epochs)
            self.close_epoch()
            self.callback("epoch", self)
        pace.leave_compiled(self.model)
        if not distributed.from_first(readable_npz, self):  # lost between the last epoch and the summary
            self.evaluation = evaluate(self, full=True)
            first_only(write_npz)(self)

    def train_epoch(self):
        """Train from the current position to the end of the epoch."""
        self.model.train()
        dataset = augment.augmented(self.data, self.config, self.epoch)
        batches = self.training_batches()[self.step_in_epoch :]
        for indices, images, labels in self.loader(dataset, batches, self.own_share):
            self.apply_schedule(self.step)
            self.optimize(images, labels, indices)
            self.step_in_epoch += 1
            self.callback("step", self)
            if time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes:
                self.save()
            distributed.sync_stop(self.stop).check()
        self.check_pending()
        self.training_seconds = self.training_seconds or self.elapsed()  # known, if validation was cut short

    def apply_schedule(self, step):
        """Set learning rate, loss weights, frozen parts and the seed of dropout to what belongs to `step`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(step) * group["factor"]
        self.loss.weights = self.schedule.weights(step)
        if self.model.frozen != self.schedule.frozen(step):
            self.model.freeze(self.schedule.frozen(step))
        torch.manual_seed(key(self.config.seed, "step", step))

    def optimize(self, images, labels, indices):
        """One optimiser step on a batch, in `accumulate` parts weighted by their valid pixels.

        images, labels: this process's share of the batch `indices`; the loss is that of the whole batch.
        """
        parts, targets, terms = self.config.accumulate, None, 0.0
        for i, part in enumerate(images.chunk(parts)):
            views = self.supervised(part)
            if targets is None:
                stride = 1 if self.config.full_size_loss else self.config.label_stride
                own = self.model.subsample(labels, views[0].shape[-2:], stride).chunk(parts)
                targets = [distributed.gather(target) for target in own]
                valid = torch.stack([(target != 255).sum() for target in targets])
                shares = valid / valid.sum().clamp(min=1)
            pairs = torch.cat(views), targets[i].repeat(len(views), 1, 1)
            raw = {name: term * shares[i] for name, term in self.loss.terms(*pairs).items()}
            self.scaler.scale(self.loss.total(raw)).backward()
            terms = terms + torch.stack(list(raw.values())).detach()
            self.confusion.update(targets[i], views[0].detach().max(1).indices)
        self.check_finite(terms, indices)
        distributed.sum_gradients(self.model)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.model, self.step)
        self.loss_sums += self.step_losses(terms)

    def close_epoch(self):
        """Record the epoch: best weights, checkpoint, then the CSV, each whole."""
        row = self.row()
        self.history.append(row)
        if row["val_mIoU"] > self.best["val_mIoU"]:
            self.best = {"epoch": self.epoch, "val_mIoU": row["val_mIoU"]}
            self.save_best()
        if self.epoch == self.config.epochs:
            first_only(write_npz)(self)
        self.start_epoch(self.epoch + 1)
        self.save()
        self.write_csv()

    # -- pieces of the loop --------------------------------------------------------------------------------------

    def start_epoch(self, epoch, step=0, seconds=0.0, training_seconds=None, tally=None, confusion=None):
        """Stand at `step` of `epoch`, with what has been counted in it so far."""
        terms = len(self.loss.losses)
        self.epoch, self.step_in_epoch, self.training_seconds = epoch, step, training_seconds
        self.saved_at = time.monotonic()
        self.clock_start = self.saved_at - seconds
        empty = torch.zeros(2 * terms + 1)
        self.loss_sums = (empty if tally is None else tally).to(self.device, devices.precise(self.device))
        self.confusion = ConfusionMatrix(matrix=confusion)

    @property
    def step(self):
        """Optimiser steps taken since the run began."""
        return (self.epoch - 1) * self.steps_per_epoch + self.step_in_epoch

    def untimed(self, callback):
        """`callback`, so that what it takes is no part of an epoch's time."""

        def watched(event, run):
            begun = time.monotonic()
            callback(event, run)
            self.clock_start += time.monotonic() - begun

        return watched

    def elapsed(self):
        """Seconds spent on the epoch at hand, over all sessions, without what was shown of it."""
        return time.monotonic() - self.clock_start

    @property
    def eval_model(self):
        """The network that is validated and kept: the average of the trained one's weights, if there is one."""
        return self.average.model if self.average else self.model

    def grid_logits(self, images, model=None):
        """Grid logits `(N, C, h, w)` of `model` (None: the one in training), computed in the run's mixed precision.

        They leave it as float32: what follows, interpolation and its gradient first, would lose what it adds up.
        """
        with devices.autocast(self.device, self.config.amp):
            return (model or self.model).grid_logits(images).float()

    def views(self, images):
        """What the tested network, put into eval mode before, says of `images (N, 3, H, W)` in every view of `tta`."""
        return Views(self.eval_model, lambda seen: self.grid_logits(seen, self.eval_model), images, self.config.tta)

    def supervised(self, images):
        """Logits that the loss sees, a list of `(N, C, h, w)`, those of the whole batch's images as they are first.

        `label_stride` interpolates them to finer labels than the grid's, and the study's code to every label;
        `multiscale` adds those of the images at other scales and the maximum of all, each to be held against the same
        labels (DeepLab, TPAMI 2018, section 4.1).
        """
        stride, seen = self.config.label_stride, training_views(images, self.config.multiscale, self.model.stride)
        plain, *rescaled = (distributed.gather(self.grid_logits(view)) for view in seen)
        if self.config.full_size_loss:
            views = [self.model.upsample(plain, images.shape[-2:])]
        else:
            views = [self.model.finer(plain, stride) if stride else plain]
        views += [self.model.upsample(logits, views[0].shape[-2:]) for logits in rescaled]
        return [*views, torch.stack(views).amax(0)] if rescaled else views

    def training_batches(self):
        """The epoch's batches of image numbers, from (seed, epoch) alone; a last, smaller batch is left out.

        They are the epoch's part of a pass over the training images.
        """
        passes, part = divmod(self.epoch - 1, self.config.epochs_per_pass)
        order = np.random.default_rng(key(self.config.seed, "order", passes + 1)).permutation(len(self.data.train))
        used = order[part * self.data.train_each_epoch :][: self.steps_per_epoch * self.config.batch_size]
        return used.reshape(self.steps_per_epoch, -1).tolist()

    def validation_batches(self, full):
        """Validation images in order, in batches of the training's micro-batch size: those of every epoch, then all."""
        size, each_epoch = self.config.batch_size // self.config.accumulate, self.data.val_each_epoch
        parts = [(0, each_epoch), (each_epoch, len(self.data.val))] if full else [(0, each_epoch)]
        return [list(range(at, min(at + size, end))) for start, end in parts for at in range(start, end, size)]

    def own_share(self, numbers):
        """The image numbers of a training batch that this process computes on."""
        return distributed.share(numbers, self.config.accumulate)

    def loader(self, dataset, batches, chosen=list):
        """Yield `(numbers, images, labels)` per batch of image numbers, on the device; images of `chosen(numbers)`."""
        sampler, pinned = [chosen(numbers) for numbers in batches], "pinned" in self.fast_paths
        options = {"num_workers": self.config.workers, "worker_init_fn": leave_signals, "pin_memory": pinned}
        loader = torch.utils.data.DataLoader(dataset, batch_sampler=sampler, **options)
        stored = devices.memory_format(self.fast_paths)
        for numbers, (images, labels) in zip(batches, loader, strict=True):
            images = images.to(self.device, memory_format=stored, non_blocking=pinned)
            yield numbers, images, labels.to(self.device, non_blocking=pinned)

    def step_losses(self, terms):
        """Raw terms, weighted terms and their total, to be averaged over the epoch's steps."""
        weighted = torch.stack([terms[i] * self.loss.weights[name] for i, name in enumerate(self.loss.losses)])
        return torch.cat([terms, weighted, weighted.sum()[None]]).to(self.loss_sums.dtype)

    def check_finite(self, terms, indices):
        """Stop before the weights are touched if a loss term is not a finite number.

        A GPU would have to be waited for: there the terms are looked at a step later, and before anything is saved.
        """
        waiting = devices.Copy(terms), indices, self.step_in_epoch + 1
        if self.device.type == "cuda":
            waiting, self.pending_check = self.pending_check, waiting
        if waiting:
            self.refuse_not_finite(*waiting)

    def check_pending(self):
        """Check the step that still waits for it, if one does."""
        waiting, self.pending_check = self.pending_check, None
        if waiting:
            self.refuse_not_finite(*waiting)

    def refuse_not_finite(self, terms, indices, step):
        """Raise RunStopped, naming the images, if a loss term of `step` is not a finite number."""
        values = dict(zip(self.loss.losses, terms.values(), strict=True))
        bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise RunStopped(
                f"the loss is not finite at epoch {self.epoch}, step {step}: {', '.join(bad)}; "
                f"images {', '.join(self.data.train.pairs[i].name for i in indices)}. {self.last_good()}; "
                "a smaller lr or a longer warm-up usually mends it"
            )

    def row(self):
        """The epoch as a row of the CSV, columns in their fixed order.

        Losses and means are of the images that are evaluated after every epoch. What ends in `_final`, and the classes
        in the last row, are of all.
        """
        whole, seconds, last = self.evaluation, self.elapsed(), self.step - 1
        names, mean = list(self.loss.losses), (self.loss_sums / self.steps_per_epoch).tolist()
        trained = {"train_loss": mean[-1], "train_mIoU": self.confusion.miou()}
        seen, finals = trained | self.validated(whole.first or whole), trained | self.validated(whole)
        row = {"epoch": self.epoch, "lr": self.schedule.lr(last)}
        row |= {name: seen[name] for name in ("train_loss", "val_loss", "train_mIoU", "val_mIoU")}
        row |= record.percent_columns("train", self.confusion.iou())
        row |= record.percent_columns("val", counts_of(whole).iou())
        row |= {"Runtime": round(seconds, 3)} | {name: seen[name] for name in ("val_ce", "val_pixel_accuracy")}
        row |= {f"loss_{name}": value for name, value in zip(names, mean, strict=False)}
        row |= {f"weighted_{name}": value for name, value in zip(names, mean[len(names) :], strict=False)}
        row |= {f"weight_{name}": self.loss.weights[name] for name in names}
        row |= {"power": self.schedule.power(last), "trainable_parameters": count_parameters(self.model)[1]}
        row["images_per_s"] = round(self.steps_per_epoch * self.config.batch_size / self.training_seconds, 3)
        row["peak_memory_MB"] = round(devices.peak_memory_mb(self.config.device), 1)
        done = self.epoch == self.config.epochs
        return row | {f"{name}_final": value if done else math.nan for name, value in finals.items()}

    def validated(self, result):
        """Loss and means of an `Evaluation`."""
        counts = counts_of(result)
        loss = sum(self.loss.weights[name] * result.losses[name] for name in self.loss.losses)
        means = {"val_mIoU": counts.miou(), "val_pixel_accuracy": counts.pixel_accuracy()}
        return {"val_loss": loss, "val_ce": result.losses["ce"]} | means

    # -- state on disk -------------------------------------------------------------------------------------------

    @first_only
    def save(self, reason="running"):
        """Write the checkpoint: everything a later session needs to go on exactly from here."""
        self.check_pending()
        self.sessions[-1] |= {"ended": record.now(), "reason": reason}
        state = {name: getattr(self, name) for name in ("identity", "history", "sessions", "warnings", "best")}
        state |= {name: part.state_dict() for name, part in self.moving_parts().items()}
        state["weights"] = self.pretrained.as_dict()  # for whoever starts another run from this file
        state["position"] = {"epoch": self.epoch, "step": self.step_in_epoch, "seconds": self.elapsed()}
        state["position"] |= {"tally": self.loss_sums.cpu(), "confusion": self.confusion.counts.cpu()}
        state["position"]["training_seconds"] = self.training_seconds
        checkpoint.save(self.files.path(".pt"), state, keep=self.files.path(".previous.pt"))
        self.saved_at = time.monotonic()

    def moving_parts(self):
        """What training changes, by its name in a checkpoint."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        return parts | ({"average": self.average.model} if self.average else {})

    @first_only
    def save_best(self):
        """Write the best weights so far."""
        checkpoint.save(self.files.path(".best.pt"), best_state(self))

    @first_only
    def write_csv(self):
        """Write the CSV, which always is the whole history."""
        if self.history:
            record.write_csv(self.files.path(".csv"), self.history)

    def restore(self):
        """Go back to the newest good checkpoint, if there is one; raises ValueError if it is of another run."""
        state, problems = distributed.from_first(checkpoint.load_newest, self.files)
        if problems:
            went_on = "continuing from the previous checkpoint" if state else "starting over"
            self.warnings += [f"{problem}; {went_on}" for problem in problems]
            if state:
                first_only(self.files.keep_damaged)()
        if state:
            refuse_changes(self.files, state["identity"], self.identity)
            for name, part in self.moving_parts().items():
                if state[name]:  # a scaler that was not in use leaves nothing
                    part.load_state_dict(state[name])
            for group in self.optimizer.param_groups:
                group["fused"] = "fused" in self.fast_paths
            lay_out_momentum(self.optimizer)
            self.history, self.sessions, self.best = state["history"], state["sessions"], state["best"]
            self.warnings = list(dict.fromkeys(state["warnings"] + self.warnings))
            self.start_epoch(**state["position"])
            # There may be no step left in this epoch, or at all, to set what validation and summary report.
            self.apply_schedule(max(self.step - 1, 0))
            self.note_continuation()
        elif (problems or self.files.path(".csv").exists()) and (aside := first_only(self.files.move_aside)()):
            self.warnings.append(f"files of {self.files.stem} without a usable checkpoint are kept as {aside}.*")
        self.sessions.append(record.session(self.config, self.epoch))
        self.write_csv()

    def note_continuation(self):
        """Mark a session that was killed as such, and warn of changed code."""
        last = self.sessions[-1]
        if last["reason"] == "running":
            last["reason"] = "killed"
        if last["code"] != record.code_sha256():
            self.warnings.append(f"the library's code changed before epoch {self.epoch} (now {record.commit()})")

    def last_good(self):
        """Where the last good state lies, as a clause."""
        path = self.files.path(".pt")
        return f"the last good state is in {path}" if path.exists() else "nothing had been saved yet"

    @contextmanager
    def explain_errors(self):
        """Turn what ends a run early into one `RunStopped` that says what to do."""
        where = lambda: f"epoch {self.epoch}, step {self.step_in_epoch}"  # noqa: E731
        again = "run it again" + ("" if self.config.resume else " with resume=True")
        try:
            try:
                yield
            except StopRequested as request:
                self.save(reason=f"interrupted by {request}")
                distributed.wait()
                raise RunStopped(
                    f"stopped by {request} at {where()}; {self.last_good()}; {again} to continue"
                ) from None
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if is_out_of_shared_memory(error):
                way = "give the container more of it (docker run --shm-size=2g), or set workers=0"
                raise RunStopped(f"out of shared memory at {where()}: {way}; {self.last_good()}") from None
            if not is_out_of_memory(error):
                raise
            # A notebook keeps the error, and with its frames' variables the graph that filled the memory.
            traceback.clear_frames(error.__traceback__)
            advice = memory_advice(self.config)
            raise RunStopped(f"out of memory at {where()}: {advice}; {self.last_good()}") from None
        except OSError as error:
            if not is_disk_trouble(error):
                raise
            raise RunStopped(
                f"cannot use {error.filename or self.files.folder} ({error.strerror}) at {where()}; "
                f"{self.last_good()}; make room there, or move {self.files.stem}.* to another out_dir, and {again} to "
                "continue"
            ) from None

    @first_only
    def finish(self):
        """Write the summary JSON, last and once: its presence says that the run is complete."""
        self.save(reason="finished")
        write_json(self.files.path(".json"), summarize(self))
        self.callback("finish", self)


def identify(config, data, pretrained):
    """All that decides a run's numbers; two sessions of one run must agree in it."""
    source = file_sha256(pretrained.path) if pretrained.path else "from scratch"
    # Weights are identified by their content, not by where they lie.
    parameters = {name: value for name, value in config.result_dict().items() if name != "pretrained"}
    dataset = {"dataset": data.about["fingerprint"], "dataset_told_by": IDENTIFIED_BY}
    return jsonable(parameters | dataset | {"weights": source})


@short_traceback
def refuse_changes(files, old, new):
    """Raise ValueError, naming each difference, when a run on disk is not the one asked for."""
    if changed := record.differences(UNSAID | old, new):
        raise ValueError(
            f"{files.path('')} holds a run that differs in {'; '.join(changed)}. "
            f"Give another out_dir, move {files.stem}.* elsewhere, or resume=False, which moves a run's own files aside"
        )


def counts_of(result):
    """The `ConfusionMatrix` of all images of an `Evaluation`."""
    return ConfusionMatrix(matrix=torch.from_numpy(result.confusion.sum(0)))


def with_ce(loss):
    """The same loss with plain cross-entropy among its terms: comparable across runs whose grids are alike."""
    losses = dict(loss.losses.items())
    losses.setdefault("ce", CrossEntropyLoss())
    return WeightedLoss(losses, loss.weights)
