"""What other libraries mean by Dice, mIoU and FLOPs, measured again: `python -m benchmarks.elsewhere`.

Nothing is installed. What is there is measured on the lessons' batch and compared with `elsewhere.json`; whose value
has moved is marked. `--write` records what was measured, with version and date; the rest keeps what it has.
"""

import argparse
import contextlib
import io
import math
import os
import sys
import warnings
from collections.abc import Callable
from datetime import date
from functools import cache

import torch
from torch.nn import functional as F

from deeplab_lib.common.files import write_json
from deeplab_lib.labels import IGNORE_INDEX, NUM_CLASSES
from deeplab_lib.lessons import elsewhere
from deeplab_lib.losses import make_loss
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.deeplabv2 import DeepLabV2

os.environ.setdefault("KERAS_BACKEND", "torch")
Values = dict[str, Callable]
IMAGE = (1, 3, 512, 1024)


# -- losses: {name: function(logits (N, C, h, w), labels (N, h, w))} ---------------------------------------------------


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    """Labels `(N, h, w)` as zeros and ones `(N, C, h, w)`; a void pixel has zeros only."""
    void = labels == IGNORE_INDEX
    return F.one_hot(labels.where(~void, 0), NUM_CLASSES).movedim(3, 1) * ~void[:, None]


def torch_losses() -> Values:
    return {"cross_entropy": lambda x, y: F.cross_entropy(x, y, ignore_index=IGNORE_INDEX)}


def torchvision_losses() -> Values:
    from torchvision.ops import sigmoid_focal_loss

    return {"sigmoid_focal_loss": lambda x, y: sigmoid_focal_loss(x, one_hot(y).float(), reduction="mean")}


def smp_losses() -> Values:
    from segmentation_models_pytorch import losses

    void = {"mode": "multiclass", "ignore_index": IGNORE_INDEX}
    return {
        "DiceLoss": losses.DiceLoss(**void),
        "TverskyLoss(alpha=0.3, beta=0.7)": losses.TverskyLoss(**void, alpha=0.3, beta=0.7),
        "FocalLoss": losses.FocalLoss(**void),
        "FocalLoss without ignore_index": losses.FocalLoss("multiclass"),
        "LovaszLoss": losses.LovaszLoss(**void),
        "LovaszLoss without ignore_index": losses.LovaszLoss("multiclass"),
    }


def monai_losses() -> Values:
    from monai import losses

    def on_channel(loss):
        return lambda x, y: loss(x, y[:, None])

    shared = {"to_onehot_y": True, "softmax": True, "ignore_index": IGNORE_INDEX}
    focal = {"to_onehot_y": True, "ignore_index": IGNORE_INDEX}
    return {
        "DiceLoss(batch=True)": on_channel(losses.DiceLoss(**shared, batch=True)),
        "DiceLoss": on_channel(losses.DiceLoss(**shared)),
        "TverskyLoss(alpha=0.3, beta=0.7, batch=True)": on_channel(
            losses.TverskyLoss(**shared, alpha=0.3, beta=0.7, batch=True)
        ),
        "FocalLoss(use_softmax=True)": on_channel(losses.FocalLoss(to_onehot_y=True, use_softmax=True)),
        "FocalLoss(use_softmax=True, ignore_index=255)": on_channel(losses.FocalLoss(**focal, use_softmax=True)),
        "FocalLoss(ignore_index=255)": on_channel(losses.FocalLoss(**focal)),
    }


def kornia_losses() -> Values:
    from kornia import losses

    void = {"ignore_index": IGNORE_INDEX}
    return {
        "dice_loss(average='macro')": lambda x, y: losses.dice_loss(x, y, average="macro", **void),
        "dice_loss": lambda x, y: losses.dice_loss(x, y, **void),
        "tversky_loss(alpha=0.3, beta=0.7)": lambda x, y: losses.tversky_loss(x, y, 0.3, 0.7, **void),
        "focal_loss(alpha=None)": lambda x, y: losses.focal_loss(x, y, None, reduction="mean", **void),
        "lovasz_softmax_loss": losses.lovasz_softmax_loss,
    }


def keras_losses() -> Values:
    from keras import losses

    def by_pixel(loss):
        return lambda x, y: loss(one_hot(y).movedim(1, 3).float(), x.softmax(1).movedim(1, 3))

    return {
        "Dice(axis=(0, 1, 2))": by_pixel(losses.Dice(axis=(0, 1, 2))),
        "Dice": by_pixel(losses.Dice()),
        "Tversky(alpha=0.3, beta=0.7, axis=(0, 1, 2))": by_pixel(losses.Tversky(0.3, 0.7, axis=(0, 1, 2))),
        "Tversky(alpha=0.3, beta=0.7)": by_pixel(losses.Tversky(0.3, 0.7)),
        "CategoricalFocalCrossentropy": by_pixel(losses.CategoricalFocalCrossentropy()),
    }


def toolbelt_losses() -> Values:
    from pytorch_toolbelt import losses

    return {
        "DiceLoss": losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX),
        "CrossEntropyFocalLoss": losses.CrossEntropyFocalLoss(ignore_index=IGNORE_INDEX),
        "LovaszLoss": losses.LovaszLoss(ignore=IGNORE_INDEX),
    }


def catalyst_losses() -> Values:
    from catalyst.contrib import losses

    return {
        "DiceLoss": lambda x, y: losses.DiceLoss()(x.softmax(1), one_hot(y)),
        "TrevskyLoss(alpha=0.3)": lambda x, y: losses.TrevskyLoss(alpha=0.3)(x.softmax(1), one_hot(y)),
    }


def torchium_losses() -> Values:
    with contextlib.redirect_stdout(io.StringIO()):  # it greets
        from torchium import losses
    return {
        "DiceLoss": losses.DiceLoss(),
        "TverskyLoss(alpha=0.3, beta=0.7)": losses.TverskyLoss(alpha=0.3, beta=0.7),
    }


def mmseg_losses() -> Values:
    from mmseg.models import losses

    return {
        "DiceLoss": losses.DiceLoss(),
        "TverskyLoss": losses.TverskyLoss(),
        "CrossEntropyLoss(ignore_index=255)": lambda x, y: losses.CrossEntropyLoss()(x, y, ignore_index=IGNORE_INDEX),
        "LovaszLoss(reduction='none')": losses.LovaszLoss(reduction="none"),
    }


def imbalanced_losses() -> Values:
    from imbalanced_losses import SoftmaxFocalLoss

    return {"SoftmaxFocalLoss": SoftmaxFocalLoss(gamma=2.0, ignore_index=IGNORE_INDEX)}


# -- mIoU: {name: function(labels, predictions (N, H, W))}, as a fraction ----------------------------------------------


def flat(labels, predictions):
    """The valid pixels of both maps, as NumPy arrays `(P,)`."""
    valid = labels != IGNORE_INDEX
    return labels[valid].numpy(), predictions[valid].numpy()


def official_miou() -> Values:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
    from cityscapesscripts.helpers.labels import trainId2label

    def miou(labels, predictions):
        args = official.args
        ids = [trainId2label[c].id for c in range(NUM_CLASSES)]
        confusion = official.generateMatrix(args)
        ours = ConfusionMatrix().update(labels, predictions).matrix
        for c, row in zip(ids, ours, strict=True):
            confusion[c, ids] = row
        scores = [official.getIouScoreForLabel(c, confusion, args) for c in ids]
        return sum(score for score in scores if not math.isnan(score)) / sum(not math.isnan(s) for s in scores)

    return {"evalPixelLevelSemanticLabeling": miou}


def torchmetrics_miou() -> Values:
    from torchmetrics.classification import MulticlassJaccardIndex
    from torchmetrics.segmentation import MeanIoU

    def jaccard(average):
        return lambda y, guess: MulticlassJaccardIndex(NUM_CLASSES, average, IGNORE_INDEX)(guess, y).mean()

    def one_hot_miou(y, guess):
        return MeanIoU(NUM_CLASSES)(one_hot(guess), one_hot(y))

    return {
        "JaccardIndex(macro, ignore_index=255)": jaccard("macro"),
        "mean of JaccardIndex(average='none')": jaccard("none"),
        "MeanIoU, one-hot": one_hot_miou,
    }


def sklearn_miou() -> Values:
    from sklearn.metrics import jaccard_score

    def scored(**options):
        def score(y, guess):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return jaccard_score(*flat(y, guess), average="macro", **options)

        return score

    every = {"labels": range(NUM_CLASSES)}
    return {
        "jaccard_score, void removed": scored(),
        "jaccard_score(labels=range(19)), void removed": scored(**every, zero_division=0),
        "jaccard_score(zero_division=1), void removed": scored(**every, zero_division=1),
        "jaccard_score with 255": lambda y, guess: jaccard_score(
            y.flatten().numpy(), guess.flatten().numpy(), average="macro"
        ),
    }


def smp_miou() -> Values:
    from segmentation_models_pytorch import metrics

    def score(reduction, void=IGNORE_INDEX):
        def miou(y, guess):
            labels = y if void else y.where(y != IGNORE_INDEX, 0)
            counts = metrics.get_stats(guess, labels, "multiclass", void, num_classes=NUM_CLASSES)
            return metrics.iou_score(*counts, reduction=reduction)

        return miou

    return {"iou_score(macro)": score("macro"), "iou_score(micro)": score("micro")}


def monai_miou() -> Values:
    from monai.metrics import compute_iou

    def miou(y, guess):
        return compute_iou(one_hot(guess), one_hot(y), ignore_empty=True).nanmean()

    return {"compute_iou, one-hot": miou}


def keras_miou() -> Values:
    from keras import metrics

    def miou(y, guess, **options):
        metric = metrics.MeanIoU(NUM_CLASSES, **options)
        metric.update_state(y.flatten(), guess.flatten())
        return metric.result()

    return {"MeanIoU(ignore_class=255)": lambda y, guess: miou(y, guess, ignore_class=IGNORE_INDEX)}


# -- operations: {name: function()}, of the paper's network and one image of 512x1024 ----------------------------------


@cache
def network() -> torch.nn.Module:
    return DeepLabV2().eval()


def torch_operations() -> Values:
    from torch.utils.flop_counter import FlopCounterMode

    def flops():
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            DeepLabV2().eval()(torch.empty(IMAGE))
        return counter.get_total_flops()

    return {"FlopCounterMode": flops}


def fvcore_operations() -> Values:
    from deeplab_lib.models.efficiency import count_macs

    return {"FlopCountAnalysis": lambda: count_macs(DeepLabV2(), IMAGE[2:])}


def torchinfo_operations() -> Values:
    from torchinfo import summary

    def mult_adds():
        with torch.device("meta"):
            model, image = DeepLabV2().eval(), torch.empty(IMAGE)
        return summary(model, input_data=image, device="meta", verbose=0).total_mult_adds

    return {"summary: total_mult_adds": mult_adds}


def thop_operations() -> Values:
    from thop import profile

    return {"profile: MACs": lambda: profile(network(), (torch.zeros(IMAGE),), verbose=False)[0]}


def ptflops_operations() -> Values:
    from ptflops import get_model_complexity_info

    def macs(backend):
        given = {"print_per_layer_stat": False, "as_strings": False, "backend": backend}
        return lambda: get_model_complexity_info(DeepLabV2(), IMAGE[1:], **given)[0]

    return {"backend 'pytorch'": macs("pytorch"), "backend 'aten'": macs("aten")}


# -- what gives the textbook value ------------------------------------------------------------------------------------


def present(labels):
    """How many classes some label shows."""
    return len(labels[labels != IGNORE_INDEX].unique())


def smp_conversions() -> Values:
    own = smp_losses()
    dice, tversky = own["DiceLoss"], own["TverskyLoss(alpha=0.3, beta=0.7)"]
    return {
        "dice": lambda x, y: dice(x, y) * NUM_CLASSES / present(y),
        "tversky": lambda x, y: tversky(x, y) * NUM_CLASSES / present(y),
        "lovasz": own["LovaszLoss"],
    }


def monai_conversions() -> Values:
    from monai import losses

    own = monai_losses()

    def without_absent(loss):
        return lambda x, y: (loss(x, y) * NUM_CLASSES - (NUM_CLASSES - present(y))) / present(y)

    def each(loss):  # (N, C, h, w), 0 at void: the textbook divides by pixels, not by pixels and classes
        return lambda x, y: loss(x, y[:, None]).sum() / (y != IGNORE_INDEX).sum()

    given = {"to_onehot_y": True, "use_softmax": True, "reduction": "none", "ignore_index": IGNORE_INDEX}
    return {
        "dice": without_absent(own["DiceLoss(batch=True)"]),
        "tversky": without_absent(own["TverskyLoss(alpha=0.3, beta=0.7, batch=True)"]),
        "focal, no void": lambda x, y: own["FocalLoss(use_softmax=True)"](x, y) * NUM_CLASSES,
        "focal": each(losses.FocalLoss(**given)),
    }


def kornia_conversions() -> Values:
    focal = kornia_losses()["focal_loss(alpha=None)"]
    return {"focal": lambda x, y: focal(x, y) * NUM_CLASSES * y.numel() / (y != IGNORE_INDEX).sum()}


def keras_conversions() -> Values:
    from keras import losses

    focal = keras_losses()["CategoricalFocalCrossentropy"]
    exchanged = losses.Tversky(0.7, 0.3, axis=(0, 1, 2))
    return {
        "tversky, no void": lambda x, y: exchanged(one_hot(y).movedim(1, 3).float(), x.softmax(1).movedim(1, 3)),
        "focal": lambda x, y: focal(x, y) / 0.25 * y.numel() / (y != IGNORE_INDEX).sum(),
    }


def catalyst_conversions() -> Values:
    from catalyst.contrib import losses

    return {"tversky, no void": lambda x, y: losses.TrevskyLoss(alpha=0.7)(x.softmax(1), one_hot(y))}


def mmseg_conversions() -> Values:
    from mmseg.models import losses

    loss = losses.CrossEntropyLoss(avg_non_ignore=True)
    return {"ce": lambda x, y: loss(x, y, ignore_index=IGNORE_INDEX)}


def fvcore_conversions() -> Values:
    return {"operations": lambda: 2 * (fvcore_operations()["FlopCountAnalysis"]() - 968_760_064 - 39_845_888)}


def thop_conversions() -> Values:
    return {"operations": lambda: 2 * (thop_operations()["profile: MACs"]() - 2 * 968_760_064)}


KINDS = {
    "losses": {
        "torch": torch_losses,
        "torchvision": torchvision_losses,
        "segmentation-models-pytorch": smp_losses,
        "pytorch-toolbelt": toolbelt_losses,
        "monai": monai_losses,
        "kornia": kornia_losses,
        "keras": keras_losses,
        "catalyst": catalyst_losses,
        "torchium": torchium_losses,
        "onedl-mmsegmentation": mmseg_losses,
        "imbalanced-losses": imbalanced_losses,
    },
    "miou": {
        "cityscapesscripts": official_miou,
        "torchmetrics": torchmetrics_miou,
        "keras": keras_miou,
        "scikit-learn": sklearn_miou,
        "segmentation-models-pytorch": smp_miou,
        "monai": monai_miou,
    },
    "operations": {
        "torch": torch_operations,
        "fvcore": fvcore_operations,
        "torchinfo": torchinfo_operations,
        "thop": thop_operations,
        "ptflops": ptflops_operations,
    },
    "conversions": {
        "segmentation-models-pytorch": smp_conversions,
        "monai": monai_conversions,
        "kornia": kornia_conversions,
        "keras": keras_conversions,
        "catalyst": catalyst_conversions,
        "onedl-mmsegmentation": mmseg_conversions,
        "fvcore": fvcore_conversions,
        "thop": thop_conversions,
    },
}
TEXTBOOK = {"tversky": "tversky(alpha=0.3, beta=0.7)", "focal": "focal(gamma=2)"}


def textbook(kind: str, batch: str) -> float:
    """The value of a loss by its textbook definition on `elsewhere.loss_batch(batch)`; "operations": PyTorch's."""
    if kind == "operations":
        return float(torch_operations()["FlopCounterMode"]())
    return float(make_loss(TEXTBOOK.get(kind, kind))(*elsewhere.loss_batch(batch)))


def outcome(function: Callable, *given) -> float | str:
    """A function's value, or in a word what came instead: "NaN", "error", or "empty" for a tensor without numbers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = function(*(x.clone() for x in given))
    except Exception:  # libraries fail in as many ways as there are
        return "error"
    if torch.is_tensor(value) and not value.numel():
        return "empty"
    value = float(value)
    return "NaN" if math.isnan(value) else value


def measured(section: str, entry: dict) -> dict:
    """What `entry` measures with the library that is installed here: its `value`, of a loss also its `all_void`."""
    functions = KINDS[section][entry["library"]]()
    if section == "conversions":
        batch = "clean" if "no void" in entry["name"] else "street"
        given = () if entry["name"] == "operations" else elsewhere.loss_batch(batch)
        return {"value": outcome(functions[entry["name"]], *given), "textbook": textbook(entry["loss"], batch)}
    if section == "losses":
        void = elsewhere.loss_batch("void")
        own = {"textbook": textbook(entry["loss"], entry["batch"])}
        function = functions[entry["name"]]
        return {
            "value": outcome(function, *elsewhere.loss_batch(entry["batch"])),
            **own,
            "all_void": outcome(function, *void),
        }
    return {"value": outcome(functions[entry["name"]], *(elsewhere.miou_pair() if section == "miou" else ()))}


def same(one: float | str | None, other: float | str | None) -> bool:
    """Whether two values are the same word, or agree up to the rounding of another machine."""
    if isinstance(one, str) or isinstance(other, str) or None in (one, other):
        return one == other
    return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)


def measure_again(say: Callable = print) -> dict:
    """The sections of `elsewhere.json` with what can be measured here; `say` tells of libraries and of what moved."""
    content = {section: elsewhere.entries(section) for section in elsewhere.SECTIONS}
    libraries = sorted({entry["library"] for rows in content.values() for entry in rows})
    for library in libraries:
        found = elsewhere.installed(library)
        say(f"{library:28} {found or 'not installed: its values stay as they were recorded'}")
    for section, rows in content.items():
        for entry in rows:
            version = elsewhere.installed(entry["library"])
            if version is None or entry["library"] not in KINDS[section]:
                continue
            try:
                now = measured(section, entry)
            except (ImportError, KeyError) as error:
                say(f"{section}: {entry['library']} {version}: {entry['name']}: cannot be measured ({error})")
                continue
            moved = [
                f"{key} {entry.get(key)} -> {value}" for key, value in now.items() if not same(value, entry.get(key))
            ]
            if moved:
                say(f"MOVED {section}: {entry['library']} {version}: {entry['name']}: {', '.join(moved)}")
            entry |= now | {"version": version, "date": date.today().isoformat()}
    return content


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elsewhere", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="record what was measured in elsewhere.json")
    given = parser.parse_args(arguments)
    content = measure_again()
    if given.write:
        write_json(elsewhere.FILE, content)
        print(f"written: {elsewhere.FILE}")


if __name__ == "__main__":
    sys.exit(main())
