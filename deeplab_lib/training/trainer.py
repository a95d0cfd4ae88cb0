"""What a run is made of: everything that is built once, before the first step."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from deeplab_lib.common import devices
from deeplab_lib.common.errors import Stop, leave_signals
from deeplab_lib.common.seeds import key
from deeplab_lib.config import Config
from deeplab_lib.data import augment
from deeplab_lib.data.dataset import Data
from deeplab_lib.labels import IGNORE_INDEX
from deeplab_lib.losses import CrossEntropyLoss, WeightedLoss, make_loss
from deeplab_lib.models import weights
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.placement import kept_out, to_device
from deeplab_lib.models.predictor import Predictor
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.views import training_views
from deeplab_lib.models.weights import Pretrained
from deeplab_lib.training import distributed
from deeplab_lib.training.distributed import first_only
from deeplab_lib.training.ema import Average, NoAverage
from deeplab_lib.training.evaluate import Batch
from deeplab_lib.training.finite import FiniteCheck
from deeplab_lib.training.optimizer import HEAD_FACTOR, make_optimizer
from deeplab_lib.training.run_folder import RunFolder
from deeplab_lib.training.state import State

Event = Literal["start", "step", "validate", "epoch", "finish"]


class Callback(Protocol):
    """What shows how a run stands: called with what has just happened and the run's `Trainer`."""

    def __call__(self, event: Event, trainer: "Trainer", /) -> None: ...


class Part(NamedTuple):
    """One of the `accumulate` parts of a batch, seen by the network.

    logits `(V * N, C, h, w)` and labels `(V * N, h, w)`: what the loss is computed on, V views of N images. share: of
    the batch's labelled pixels, a scalar. predictions, targets `(N, h, w)`: for the training mIoU.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    share: torch.Tensor
    predictions: torch.Tensor
    targets: torch.Tensor


class Trainer:
    """A run's network, optimiser, loss, schedule, data and files, and its `state`; nothing here is reassigned.

    With several processes each has one, alike in all but the images it computes on; the first writes and shows.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        data: Data,
        pretrained: Pretrained,
        identity: dict[str, Any],
        callback: Callback,
        stop: Stop,
    ) -> None:
        self.config, self.folder, self.data, self.identity = config, folder, data, identity
        self.pretrained, self.stop, self.shown = pretrained, stop, first_only(callback)
        self.device, self.fast_paths = torch.device(config.device), config.fast_paths
        devices.set_up(config.device, self.fast_paths, config.deterministic)
        self.loss, self.validation_loss = make_loss(config.expression), with_ce(make_loss(config.expression))
        for loss in (self.loss, self.validation_loss):
            loss.set_class_counts(data.class_counts)
        self.steps_per_epoch = data.train_each_epoch // config.batch_size
        self.schedule = config.poly(self.steps_per_epoch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(config.seed, "weights"))
            model = make_model(
                config.model, stride_in=pretrained.stride_in, bn=config.bn, output_stride=config.output_stride
            )
        self.weights = weights.load_pretrained(model, pretrained.path) if pretrained.path else None
        self.model = distributed.synchronize_batch_norm(model)
        to_device(self.model, self.device, self.fast_paths)
        network = self.model.grid_logits
        self.network = torch.compile(network, dynamic=False) if config.compile else network
        head_factor = 1 if config.follows == "code" else HEAD_FACTOR
        self.optimizer = make_optimizer(self.model, config.lr, "fused" in self.fast_paths, head_factor)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.average = Average(self.model, config.ema) if config.ema else NoAverage(self.model)
        self.finite = FiniteCheck(list(self.loss.losses), self.device.type == "cuda", data.train.pairs, folder)
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        parts |= {"average": self.average.model} if config.ema else {}
        self.state = State(parts, len(self.loss.losses), self.steps_per_epoch, self.device)
        self.state.warnings += first_warnings(self)
        devices.forget_peak_memory(self.device)

    def callback(self, event: Event) -> None:
        """Show how the run stands; what that takes is no part of an epoch's time."""
        with self.state.clock.pause():
            self.shown(event, self)

    @property
    def eval_model(self) -> SegmentationNetwork:
        """The network that is evaluated and kept: the average of the trained one's weights, if there is one."""
        return self.average.model

    # -- batches -------------------------------------------------------------------------------------------------------

    def training_batches(self, epoch: int, done: int) -> Iterator[Batch]:
        """`(numbers, images, labels)` of the batches of `epoch` but the first `done`; images: this process's share."""
        batches = self.numbers_of(epoch)[done:]
        share = lambda numbers: distributed.share(numbers, self.config.accumulate)  # noqa: E731
        return self.load(augment.augmented(self.data, self.config, epoch), batches, share)

    def numbers_of(self, epoch: int) -> list[list[int]]:
        """The epoch's batches of image numbers, from (seed, epoch) alone; a last, smaller batch is left out.

        They are the epoch's part of a pass over the training images.
        """
        passes, part = divmod(epoch - 1, self.config.epochs_per_pass)
        order = np.random.default_rng(key(self.config.seed, "order", passes + 1)).permutation(len(self.data.train))
        used = order[part * self.data.train_each_epoch :][: self.steps_per_epoch * self.config.batch_size]
        return used.reshape(self.steps_per_epoch, -1).tolist()

    def validation_batches(self, full: bool) -> list[list[int]]:
        """Validation images in order, those of every epoch first, in batches of one or several micro-batches."""
        size, each_epoch = self.config.micro_batch * self.config.val_at_once, self.data.val_each_epoch
        parts = [(0, each_epoch), (each_epoch, len(self.data.val))] if full else [(0, each_epoch)]
        return [list(range(at, min(at + size, end))) for start, end in parts for at in range(start, end, size)]

    def load(
        self,
        dataset: torch.utils.data.Dataset,
        batches: list[list[int]],
        share: Callable[[list[int]], list[int]] = list,
    ) -> Iterator[Batch]:
        """Yield `(numbers, images, labels)` per batch of image numbers, on the device; images of `share(numbers)`."""
        sampler, pinned = [share(numbers) for numbers in batches], "pinned" in self.fast_paths
        loader = torch.utils.data.DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self.config.workers,
            worker_init_fn=leave_signals,
            pin_memory=pinned,
        )
        stored = devices.memory_format(self.fast_paths)
        for numbers, (images, labels) in zip(batches, loader, strict=True):
            images = images.to(self.device, memory_format=stored, non_blocking=pinned)
            yield numbers, images, labels.to(self.device, non_blocking=pinned)

    # -- the network's answers -----------------------------------------------------------------------------------------

    def grid_logits(self, images: torch.Tensor) -> torch.Tensor:
        """Grid logits `(N, C, h, w)` of the network in training, computed in the run's mixed precision.

        They leave it as float32: what follows, interpolation and its gradient first, would lose what it adds up.
        """
        with devices.autocast(self.device, self.config.amp):
            return self.network(images).float()

    def predictor(self) -> Predictor:
        """What says what the evaluated network, as it is now, makes of images: in the run's precision and views."""
        return Predictor(self.eval_model, self.config.amp, self.config.tta)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Part]:
        """Pass a batch through the network in `accumulate` parts; backward is called between one and the next.

        images `(N, 3, H, W)`, labels `(N, H, W)`: this process's share; what is yielded is of the whole batch.
        """
        parts = self.config.accumulate
        targets: list[torch.Tensor] = []
        shares: list[torch.Tensor] = []
        for number, part in enumerate(images.chunk(parts)):
            views = self.supervised(part)
            if not targets:  # the first views tell how large the grid is
                stride = 1 if self.config.full_size_loss else self.config.label_stride
                own = self.model.subsample(labels, views[0].shape[-2:], stride).chunk(parts)
                targets = [distributed.gather(target) for target in own]
                valid = torch.stack([(target != IGNORE_INDEX).sum() for target in targets])
                shares = list(valid / valid.sum().clamp(min=1))
            target, predictions = targets[number], views[0].detach().max(1).indices
            yield Part(torch.cat(views), target.repeat(len(views), 1, 1), shares[number], predictions, target)

    def supervised(self, images: torch.Tensor) -> list[torch.Tensor]:
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


def first_warnings(trainer: Trainer) -> list[str]:
    """What is to be said of a run before it starts."""
    schedule = trainer.schedule
    noted = (
        trainer.pretrained.warning,
        trainer.data.about.get("label_files", {}).get("warning"),
        kept_out(trainer.model, trainer.config.amp),
    )
    found = [text for text in noted if text]
    frozen = dict.fromkeys(name for change in schedule.changes for name in change.freeze)
    if missing := [name for name in frozen if not trainer.model.parts[name]]:  # a stem without normalisation, say
        found.append(f"{trainer.config.model} has no {', '.join(missing)}: to freeze that changes nothing")
    if schedule.warmup_steps >= schedule.total_steps:
        steps = f"{schedule.warmup_steps} steps, the whole training {schedule.total_steps}"
        found.append(f"the warm-up takes {steps}: the initial learning rate is never reached")
    return found


def with_ce(loss: WeightedLoss) -> WeightedLoss:
    """The same loss with plain cross-entropy among its terms: comparable across runs whose grids are alike."""
    losses = dict(loss.losses.items())
    losses.setdefault("ce", CrossEntropyLoss())
    return WeightedLoss(losses, loss.weights)
