"""DeepLabV2 on Cityscapes under eight loss configurations.

The names that a notebook of your own needs stand here. Each is loaded when it is first asked for: `import deeplab_lib`
alone loads neither PyTorch nor anything else.

    from deeplab_lib import Config, fit, load_runs

    run = fit(Config(loss="ce_focal", preset="smoke"))
    load_runs("runs/toycity").groupby("run")["val_mIoU"].last()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in `_MODULES`, for completion and the type checker
    from deeplab_lib.analysis.evidence import Evidence
    from deeplab_lib.analysis.gallery import Gallery
    from deeplab_lib.analysis.numbers import Numbers
    from deeplab_lib.common.files import for_project, in_project, project_root
    from deeplab_lib.common.parameters import check_parameters
    from deeplab_lib.config import Config, from_notebook
    from deeplab_lib.data.augment import count_classes
    from deeplab_lib.data.cityscapes import Cityscapes
    from deeplab_lib.data.dataset import prepare_data
    from deeplab_lib.labels import CATEGORIES, CLASS_NAMES, IGNORE_INDEX, LABELS, NUM_CLASSES, TRAIN_ID_OF_ID, colorize
    from deeplab_lib.losses.expression import make_loss
    from deeplab_lib.losses.hybrid import HYBRID_TERMS, near_boundary
    from deeplab_lib.losses.standard import CrossEntropyLoss, DiceLoss, FocalLoss, LovaszLoss, TverskyLoss
    from deeplab_lib.metrics import ConfusionMatrix
    from deeplab_lib.models.deeplabv2 import DeepLabV2, count_parameters, subsample_labels
    from deeplab_lib.models.efficiency import count_macs, count_operations
    from deeplab_lib.models.registry import make_model
    from deeplab_lib.models.weights import load_pretrained, prepare_weights
    from deeplab_lib.onnx_export import export_onnx
    from deeplab_lib.plotting.live import Live
    from deeplab_lib.predict import load_run
    from deeplab_lib.recipes import PRESETS, RECIPES
    from deeplab_lib.study.grouping import studies
    from deeplab_lib.study.results import load_runs, read_folder, read_runs
    from deeplab_lib.training.loop import fit, train_one_epoch
    from deeplab_lib.training.schedule import PolyLR
    from deeplab_lib.training.trainer import Callback

__version__ = "0.2.0"

_MODULES = {
    "analysis.evidence": ("Evidence",),
    "analysis.gallery": ("Gallery",),
    "analysis.numbers": ("Numbers",),
    "common.files": ("for_project", "in_project", "project_root"),
    "common.parameters": ("check_parameters",),
    "config": ("Config", "from_notebook"),
    "data.augment": ("count_classes",),
    "data.cityscapes": ("Cityscapes",),
    "data.dataset": ("prepare_data",),
    "labels": ("CATEGORIES", "CLASS_NAMES", "IGNORE_INDEX", "LABELS", "NUM_CLASSES", "TRAIN_ID_OF_ID", "colorize"),
    "losses.expression": ("make_loss",),
    "losses.hybrid": ("HYBRID_TERMS", "near_boundary"),
    "losses.standard": ("CrossEntropyLoss", "DiceLoss", "FocalLoss", "LovaszLoss", "TverskyLoss"),
    "metrics": ("ConfusionMatrix",),
    "models.deeplabv2": ("DeepLabV2", "count_parameters", "subsample_labels"),
    "models.efficiency": ("count_macs", "count_operations"),
    "models.registry": ("make_model",),
    "models.weights": ("load_pretrained", "prepare_weights"),
    "onnx_export": ("export_onnx",),
    "plotting.live": ("Live",),
    "predict": ("load_run",),
    "recipes": ("PRESETS", "RECIPES"),
    "study.grouping": ("studies",),
    "study.results": ("load_runs", "read_folder", "read_runs"),
    "training.loop": ("fit", "train_one_epoch"),
    "training.schedule": ("PolyLR",),
    "training.trainer": ("Callback",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CATEGORIES",
    "CLASS_NAMES",
    "HYBRID_TERMS",
    "IGNORE_INDEX",
    "LABELS",
    "NUM_CLASSES",
    "PRESETS",
    "RECIPES",
    "TRAIN_ID_OF_ID",
    "Callback",
    "Cityscapes",
    "Config",
    "ConfusionMatrix",
    "CrossEntropyLoss",
    "DeepLabV2",
    "DiceLoss",
    "Evidence",
    "FocalLoss",
    "Gallery",
    "Live",
    "LovaszLoss",
    "Numbers",
    "PolyLR",
    "TverskyLoss",
    "check_parameters",
    "colorize",
    "count_classes",
    "count_macs",
    "count_operations",
    "count_parameters",
    "export_onnx",
    "fit",
    "for_project",
    "from_notebook",
    "in_project",
    "load_pretrained",
    "load_run",
    "load_runs",
    "make_loss",
    "make_model",
    "near_boundary",
    "prepare_data",
    "prepare_weights",
    "project_root",
    "read_folder",
    "read_runs",
    "studies",
    "subsample_labels",
    "train_one_epoch",
]


def __getattr__(name: str) -> Any:
    """A public name, loaded with its module."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # found without a call from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
