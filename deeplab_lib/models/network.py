"""What every network of the kit is: logits on a grid, two groups of parameters, parts that freeze.

Training, evaluation and prediction rely on this and on nothing else of a network.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from torch import Tensor, nn

BatchNormMode = Literal["train", "eval"]  # statistics follow the batches, or stay as loaded
StrideIn = Literal["1x1", "3x3"]  # which convolution of a block carries the stride


class SegmentationNetwork(nn.Module):
    """Base of the networks: `network(images (N, 3, H, W)) -> logits (N, C, H, W)`.

    num_classes: C. stride: pixels between two cells of the grid. parts: modules that each freezable name (conv1, bn1,
    layer1 ... layer4) stands for. frozen: the names that do not train now. bn: what batch-norm statistics do in
    training, applied again at every call of `train()`; their scale and shift never train.
    A subclass computes `grid_logits` and says where its cells lie: `upsample`, `finer` and `subsample`.
    """

    head = "aspp"  # the module whose parameters learn faster
    parts: Mapping[str, tuple[str, ...]]
    frozen: tuple[str, ...]
    bn: BatchNormMode
    num_classes: int
    stride: int
    stride_in: StrideIn

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor: ...  # a module's own takes and gives anything

        def __getattr__(self, name: str) -> Any: ...  # layers, which are called

    def grid_logits(self, images: Tensor) -> Tensor:
        """Logits `(N, C, h, w)` of `images (N, 3, H, W)` on the network's own grid: what the loss is computed on."""
        raise NotImplementedError

    def upsample(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Bilinear upsampling of grid logits `(N, C, h, w)` to `size` (H, W)."""
        raise NotImplementedError

    def finer(self, logits: Tensor, stride: int) -> Tensor:
        """Grid logits `(N, C, h, w)` interpolated to a cell every `stride` pixels."""
        raise NotImplementedError

    def subsample(self, labels: Tensor, size: Sequence[int], stride: int | None = None) -> Tensor:
        """Labels `(N, H, W)` at the pixels where the cells of a grid of `size` (h, w) sit: `(N, h, w)`.

        stride: pixels between the cells; None: those of the network's own grid.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, C, H, W)` of normalised `images (N, 3, H, W)`, bilinearly upsampled from the grid."""
        return self.upsample(self.grid_logits(images), images.shape[-2:])

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters trained at the base rate: everything but the head, less what never trains."""
        named = self.named_parameters()
        return [p for name, p in named if not name.startswith(f"{self.head}.") and not is_affine(self, name)]

    def aspp_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head, trained at ten times the base rate."""
        named = self.named_parameters()
        return [p for name, p in named if name.startswith(f"{self.head}.") and not is_affine(self, name)]

    def freeze(self, names: Iterable[str]) -> None:
        """Stop training the named parts (of conv1, bn1, layer1 ... layer4), weights and batch-norm statistics both.

        Gradients are dropped, so that neither momentum nor weight decay moves a frozen weight. The call replaces an
        earlier one: `freeze(())` unfreezes. Raises ValueError for an unknown name.
        """
        names = tuple(names)
        if unknown := [name for name in names if name not in self.parts]:
            raise ValueError(f"cannot freeze {unknown[0]!r}; parts: {', '.join(self.parts)}")
        self.frozen = names
        prefixes = tuple(f"{module}." for module in self._frozen_modules())
        for name, parameter in self.named_parameters():
            parameter.requires_grad = not name.startswith(prefixes) and not is_affine(self, name)
            if not parameter.requires_grad:
                parameter.grad = None
        self.train(self.training)

    def synchronized(self) -> "SegmentationNetwork":
        """The network with batch norms that share their statistics among processes."""
        return nn.SyncBatchNorm.convert_sync_batchnorm(self)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        freeze_bn_statistics(self)
        return self

    def _frozen_modules(self) -> list[str]:
        return [module for name in self.frozen for module in self.parts[name]]


def is_affine(model: nn.Module, parameter_name: str) -> bool:
    """Whether the named parameter is a batch norm's scale or shift."""
    return isinstance(model.get_submodule(parameter_name.rpartition(".")[0]), nn.modules.batchnorm._BatchNorm)


def freeze_batch_norm_affine(model: nn.Module) -> None:
    """Set `requires_grad=False` on every batch norm's scale and shift, as the study does."""
    for name, parameter in model.named_parameters():
        if is_affine(model, name):
            parameter.requires_grad = False


def freeze_bn_statistics(model: SegmentationNetwork) -> None:
    """Put into eval mode the batch norms that must not follow the batches: all with `bn="eval"`, else the frozen."""
    still = [model] if model.bn == "eval" else [model.get_submodule(name) for name in model._frozen_modules()]
    for part in still:
        for module in part.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
