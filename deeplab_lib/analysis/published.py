"""What the study printed, as data: its results, its last-row table and its table of initial configurations.

Nothing here was measured by this kit, and not all of it is right. The report shows these figures beside its own, never
as its own; `audit` compares them with each other, with the study's logs and with what can be computed.
"""

from dataclasses import dataclass

NAN = float("nan")

IMAGE_HEIGHT, IMAGE_WIDTH = 512, 1024
FLOPS_G = 374.66
TRAIN_IMAGES = 2975

# What is frozen in runs 5 and 6: the text names one set of layers, the parameter column fits the other.
FROZEN_IN_TEXT = ("layer1", "layer2", "layer3", "layer4", "bn1")
FROZEN_IN_COLUMN = ("layer3", "layer4")

# number, recipe, run name, val mIoU (%), latency (unit not printed), parameters, initial lr (of the per-run details)
_RESULTS = """
1 ce               DeepLabV2_ce                                      50.50   141.06 43795724 0.001
2 ce_tversky       DeepLabV2_ce07_tv03                               50.10   242.35 43795724 0.001
3 ce_lovasz        DeepLabV2_ce05_lv05                               50.82   225.46 43795724 0.001
4 ce_dice          DeepLabV2_cv07_di03                               50.17   248.61 43795724 0.001
5 ce_lovasz_warmup DeepLabV2_ce07_l03_warnup_lr_0.0002               53.79   238.74 2835724  0.0002
6 ce_focal         DeepLabV2_ce05_f05_warnup_lr_0.0003               53.9948 249.03 2835724  0.0003
7 ce_lovasz_dice   DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002   53.31   304.54 43795724 0.0002
8 ce_lovasz_focal  DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001     50.37   245.34 43795724 0.0001
"""

# number, train mIoU, val mIoU, then val IoU of class 0..18, all in %
_LAST_ROWS = """
1 nan nan nan nan nan nan nan nan nan nan nan nan nan nan nan nan nan nan nan nan nan
2 19.7200 24.8598 71.2810 35.6969 66.2086 4.3969 6.0815 6.0073 1.2510 7.2177 68.7607
  11.4301 60.4205 31.0377 2.1039 67.4115 3.2488 3.3560 5.1122 0.0393 21.2743
3 nan nan 71.0808 36.0104 66.0670 3.0987 5.0952 4.3782 0.9885 4.9694 68.3385
  8.9341 60.8646 29.3285 1.2529 67.3802 2.4288 0.9133 4.1146 0.0150 19.7206
4 19.6132 25.0474 71.6497 37.2772 66.6853 4.0139 5.5667 5.4665 1.1982 6.1704 69.6439
  12.1812 60.7493 30.8237 1.1087 69.1050 3.0499 3.3624 5.7122 0.0680 22.0675
5 16.3195 25.6934 71.7347 37.4510 67.0941 3.9643 6.4949 6.0793 1.2325 7.3666 70.2812
  13.5291 63.2470 33.4038 1.3324 69.9457 2.0573 1.7867 5.9662 0.2185 24.9895
6 18.8582 29.4252 72.2075 40.1254 68.6681 7.0652 11.2410 9.6434 3.7226 12.2880 72.0686
  15.7034 65.9422 37.9473 5.6508 71.0630 8.4344 18.4164 7.2331 0.4788 31.1791
7 22.0509 28.5452 72.4386 39.3494 68.7822 6.1719 9.4927 9.0853 2.8248 13.7529 71.6509
  16.6754 65.1375 36.9190 2.9121 72.5220 6.4038 8.0592 8.6002 0.3909 31.1893
8 20.1109 25.7124 71.6879 36.8911 66.7026 4.0402 7.7191 6.8063 1.6764 8.5597 69.3205
  11.1446 61.3446 32.6690 2.2586 69.4268 3.8689 3.1633 6.1017 0.1070 25.0476
"""

# number, losses, weights, initial lr, gamma, warm-up steps: the table of initial configurations, in its printed order
_INITIAL_TABLE = """
1 ce               -              0.0001 -   0
2 ce,lovasz        0.5,0.5        0.0001 -   0
3 ce,tversky       0.7,0.3        0.0001 -   0
4 ce,dice          0.7,0.3        0.0001 -   0
5 ce,focal,lovasz  0.6,0.2,0.2    0.0001 -   0
6 ce,lovasz        0.7,0.3        0.0002 2.0 500
7 ce,lovasz,dice   0.5,0.25,0.25  0.0002 -   0
8 ce,focal         0.6,0.2,0.2    0.0003 2.0 500
"""


@dataclass(frozen=True)
class PublishedRun:
    """One run as printed: percentages 0-100, latency in the study's unstated unit, `class_val` by train id."""

    number: int
    recipe: str
    name: str
    val_mIoU: float
    latency: float
    parameters: int
    lr: float
    last_train_mIoU: float
    last_val_mIoU: float
    class_val: tuple[float, ...]


@dataclass(frozen=True)
class InitialRow:
    """One row of the printed table of initial configurations."""

    number: int
    name: str
    losses: tuple[str, ...]
    weights: tuple[float, ...]
    lr: float
    gamma: float | None
    warmup_steps: int


def _published_runs() -> dict[str, PublishedRun]:
    words = iter(_LAST_ROWS.split())
    last_rows = {int(number): tuple(float(next(words)) for _ in range(21)) for number in words}
    runs = {}
    for line in _RESULTS.strip().splitlines():
        number, recipe, name, val_miou, latency, parameters, lr = line.split()
        figures = (float(val_miou), float(latency), int(parameters), float(lr))
        train, val, *classes = last_rows[int(number)]
        runs[recipe] = PublishedRun(int(number), recipe, name, *figures, train, val, tuple(classes))
    return runs


def _initial_table() -> tuple[InitialRow, ...]:
    names = {run.number: run.name for run in RUNS.values()}
    rows = []
    for line in _INITIAL_TABLE.strip().splitlines():
        number, losses, weighed, lr, focus, warmup = line.split()
        weights = () if weighed == "-" else tuple(float(weight) for weight in weighed.split(","))
        gamma = None if focus == "-" else float(focus)
        name = names[int(number)]
        rows.append(InitialRow(int(number), name, tuple(losses.split(",")), weights, float(lr), gamma, int(warmup)))
    return tuple(rows)


RUNS = _published_runs()
INITIAL_TABLE = _initial_table()
