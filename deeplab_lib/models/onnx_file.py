"""A network as an ONNX file (an extra): pictures in, labels or logits out, without PyTorch and without this kit.

Source: ONNX, Open Neural Network Exchange, https://onnx.ai; run here by ONNX Runtime, https://onnxruntime.ai.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from deeplab_lib.common.types import PathLike, Size
from deeplab_lib.data.normalization import Normalization
from deeplab_lib.models.network import SegmentationNetwork

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Output = Literal["labels", "logits"]
INPUT = "images"
OPSET = 17  # of 2022: the first with layer normalisation, and known to what runs on phones and in browsers
TOLERANCE = 1e-3  # of the largest logit: more than rounding, and far less than what an operator done wrong makes
SIZES = {INPUT: {0: "n", 1: "height", 2: "width"}}
OUTPUT_SIZES = {"labels": {0: "n", 1: "height", 2: "width"}, "logits": {0: "n", 2: "height", 3: "width"}}


class Deployed(nn.Module):
    """`network` from pictures as they are decoded to what is wanted of them.

    Called with images, uint8 RGB `(N, H, W, 3)`; gives train ids, uint8 `(N, H, W)`, or with `output` "logits" the
    logits `(N, C, H, W)`, float32.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: SegmentationNetwork, normalization: Normalization, output: Output) -> None:
        super().__init__()
        self.network, self.output = network, output
        self.order = [2, 1, 0] if normalization.channels == "bgr" else [0, 1, 2]
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (normalization.mean, normalization.std))
        self.register_buffer("scale", (normalization.scale / std).float().view(1, 3, 1, 1))
        self.register_buffer("shift", (mean / std).float().view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        channels = images.permute(0, 3, 1, 2)[:, self.order].float()
        logits = self.network(channels * self.scale - self.shift)
        return logits if self.output == "logits" else logits.argmax(1).to(torch.uint8)


@contextmanager
def deployed(network: SegmentationNetwork, normalization: Normalization, output: Output) -> Iterator[Deployed]:
    """`Deployed(network, ...)` in eval mode; the network's own mode is put back."""
    mode = network.training
    try:
        yield Deployed(network, normalization, output).eval()
    finally:
        network.train(mode)


def installed() -> bool:
    """Whether what writes an ONNX file and what runs one is there; neither is imported."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def check_installed() -> None:
    """ValueError in one line where `installed` is false."""
    if not installed():
        raise ValueError('an ONNX file takes onnx and onnxruntime: pip install onnx onnxruntime (or -e ".[onnx]")')


def onnx_bytes(
    network: SegmentationNetwork,
    normalization: Normalization,
    size: Size,
    output: Output = "labels",
    any_size: bool = True,
) -> bytes:
    """The ONNX model of `Deployed(network, ...)`, traced at `size` (H, W) in eval mode, batch norms folded.

    any_size: for any number of images of any size; else for any number of that size.
    """
    free = {INPUT: SIZES[INPUT], output: OUTPUT_SIZES[output]} if any_size else {INPUT: {0: "n"}, output: {0: "n"}}
    with deployed(network, normalization, output) as module:
        return traced(module, torch.zeros(1, *size, 3, dtype=torch.uint8), output, free)


def traced(
    module: nn.Module, images: Tensor, output: str, free: Mapping[str, Mapping[int, str]] | None = None
) -> bytes:
    """The ONNX model of `module(images)`, which must be in eval mode, traced at these `images`.

    free: the names of the axes that may have any length, `{input or output: {axis: name}}`.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), redirect_stdout(None):  # graphs that fail
        warnings.simplefilter("ignore")
        # By tracing: the newer exporter takes half a minute for the smallest network, and one more package.
        torch.onnx.export(
            module,
            (images,),
            file := Path(folder, "model.onnx"),
            dynamo=False,
            input_names=[INPUT],
            output_names=[output],
            dynamic_axes=free,
            opset_version=OPSET,
        )
        return file.read_bytes()


def session(model: bytes | PathLike, threads: int = 0) -> "InferenceSession":
    """ONNX Runtime's session of a model on the CPU; threads: 0 leaves them to it."""
    import onnxruntime  # not at the top: an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    content = model if isinstance(model, bytes) else os.fspath(model)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def largest_difference(
    model: bytes, network: SegmentationNetwork, normalization: Normalization, size: Size, images: int = 1
) -> float:
    """How far logits of `model` in ONNX Runtime are from the network's own on noise, as a share of the largest.

    Infinite where the model does not run at this `size` (H, W), or gives another.
    """
    pictures = torch.randint(0, 256, (images, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with deployed(network, normalization, "logits") as module:
        expected = module(pictures)
    try:
        (found,) = session(model).run(None, {INPUT: pictures.numpy()})
    except Exception:  # the runtime's errors have no common type
        return float("inf")
    if found.shape != expected.shape:
        return float("inf")
    return float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def checked_onnx(
    network: SegmentationNetwork, normalization: Normalization, size: Size, output: Output = "labels"
) -> tuple[bytes, bool]:
    """`onnx_bytes` that ONNX Runtime has been seen to run as PyTorch does, and whether they are for any size.

    Two images of another size than the traced one are compared as well; a network that does not follow it is written
    for `size` (H, W) alone. Raises ValueError in one line for a network whose logits differ at `size` itself.
    """
    stride, problem = network.stride, ""
    height, width = (max(stride * (side // stride // 2), 4 * stride) + 1 for side in size)
    for any_size in (True, False):
        try:
            logits = onnx_bytes(network, normalization, size, "logits", any_size)
        except Exception as error:  # the exporter's errors have no common type
            problem = f"it cannot be expressed ({(str(error).splitlines() or [type(error).__name__])[0]})"
            continue
        difference = largest_difference(logits, network, normalization, size)
        if not difference <= TOLERANCE:
            problem = f"ONNX Runtime's logits differ from PyTorch's by {difference:.2g} of the largest"
            continue
        if any_size and not largest_difference(logits, network, normalization, (height, width), images=2) <= TOLERANCE:
            continue
        wanted = logits if output == "logits" else onnx_bytes(network, normalization, size, output, any_size)
        return wanted, any_size
    raise ValueError(f"no ONNX file of this network: {problem}")


def with_metadata(model: bytes, about: Mapping[str, Any]) -> bytes:
    """`model` with every entry of `about` among its metadata, as JSON."""
    import onnx  # not at the top: an extra

    graph = onnx.load_from_string(model)
    onnx.helper.set_model_props(graph, {name: json.dumps(value, ensure_ascii=False) for name, value in about.items()})
    onnx.checker.check_model(graph)
    return graph.SerializeToString()
