"""Every number of a report by other code than the report's, and where its text stands in HTML and PDF.

`Recomputed(folder)[key]` is the value that `numbers.json` must hold under the key, a KeyError for a key that nobody has
thought of: read plainly from the runs' files, or as the study prints it. Bounds of intervals come from a bootstrap with
other draws and are approximate.
"""

# ruff: noqa: B019  what is remembered here lives no longer than the tests

import csv
import json
import math
import re
from functools import cache
from html.parser import HTMLParser
from itertools import combinations
from math import nan
from statistics import NormalDist

import numpy as np
import pytest

NAMES = ["road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
         "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]  # fmt: skip

# Stem, title, losses, mIoU, latency and parameters as published; then train mIoU, val mIoU and classes of the last row.
PUBLISHED = """
DeepLabV2_ce | CE | ce | 50.50 141.06 43795724
DeepLabV2_ce07_tv03 | CE + Tversky | ce tversky | 50.10 242.35 43795724 | 19.7200 24.8598 71.2810 35.6969 66.2086 4.3969
 6.0815 6.0073 1.2510 7.2177 68.7607 11.4301 60.4205 31.0377 2.1039 67.4115 3.2488 3.3560 5.1122 0.0393 21.2743
DeepLabV2_ce05_lv05 | CE + Lovász | ce lovasz | 50.82 225.46 43795724 | nan nan 71.0808 36.0104 66.0670 3.0987
 5.0952 4.3782 0.9885 4.9694 68.3385 8.9341 60.8646 29.3285 1.2529 67.3802 2.4288 0.9133 4.1146 0.0150 19.7206
DeepLabV2_cv07_di03 | CE + Dice | ce dice | 50.17 248.61 43795724 | 19.6132 25.0474 71.6497 37.2772 66.6853 4.0139
 5.5667 5.4665 1.1982 6.1704 69.6439 12.1812 60.7493 30.8237 1.1087 69.1050 3.0499 3.3624 5.7122 0.0680 22.0675
DeepLabV2_ce07_l03_warnup_lr_0.0002 | CE + Lovász (warm-up) | ce lovasz | 53.79 238.74 2835724 | 16.3195 25.6934
 71.7347 37.4510 67.0941 3.9643 6.4949 6.0793 1.2325 7.3666 70.2812 13.5291 63.2470 33.4038 1.3324 69.9457 2.0573
 1.7867 5.9662 0.2185 24.9895
DeepLabV2_ce05_f05_warnup_lr_0.0003 | CE + Focal | ce focal | 53.9948 249.03 2835724 | 18.8582 29.4252 72.2075 40.1254
 68.6681 7.0652 11.2410 9.6434 3.7226 12.2880 72.0686 15.7034 65.9422 37.9473 5.6508 71.0630 8.4344 18.4164 7.2331
 0.4788 31.1791
DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002 | CE + Lovász + Dice | ce lovasz dice | 53.31 304.54 43795724 | 22.0509
 28.5452 72.4386 39.3494 68.7822 6.1719 9.4927 9.0853 2.8248 13.7529 71.6509 16.6754 65.1375 36.9190 2.9121 72.5220
 6.4038 8.0592 8.6002 0.3909 31.1893
DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001 | CE + Lovász + Focal | ce lovasz focal | 50.37 245.34 43795724 | 20.1109
 25.7124 71.6879 36.8911 66.7026 4.0402 7.7191 6.8063 1.6764 8.5597 69.3205 11.1446 61.3446 32.6690 2.2586 69.4268
 3.8689 3.1633 6.1017 0.1070 25.0476
"""
STUDY, TITLES, LOSSES = {}, {}, {}
for line in re.sub(r"\n ", " ", PUBLISHED).strip().splitlines():
    stem, title, losses, results, *last = (part.strip() for part in line.split("|"))
    values = [float(value) for part in (results, *(last or ["nan " * 21])) for value in part.split()]
    STUDY[stem], TITLES[stem], LOSSES[stem] = values, title, set(losses.split())
ALIKE = [list(STUDY)[i] for i in (0, 1, 2, 3, 7)]  # the runs that share a schedule
TEXT, COLUMN, WHOLE, TOTAL, MACS = 1_410_316, 2_835_724, 43_795_724, 43_901_068, 374_664_739_584

AUDIT = {
    "architectures.networks": 1, "best.gap": 53.79 - 53.9948, "best.with": 53.79, "best.without": 53.9948,
    "cost.flops": 2 * MACS / 1e9, "cost.macs": MACS / 1e9, "cost.printed": 374.66,
    "latency.high": 304.54, "latency.low": 141.06, "latency.ratio": 304.54 / 141.06,
    "latency.within": 100 * (248.606 / 245.004 - 1), "latency.worst": 100 * (263.723 / 249.030 - 1),
    "lr.details": 0.001, "lr.table": 0.0001, "lr.logged": 0.0001, "lr.after": 0.0001 * 0.98**0.9, "lr.power": 0.9,
    "miou.empty": 2, "miou.runs": 6, "miou.low": 50.10, "miou.high": 53.9948, "miou.last_low": 24.8598,
    "miou.last_high": 29.4252,
    "miou.last_gap": max(abs(np.mean(v[5:]) - v[4]) for v in STUDY.values() if v[4] == v[4]),
    "miou.gap_low": min(v[0] - np.mean(v[5:]) for v in STUDY.values() if v[5] == v[5]),
    "miou.gap_high": max(v[0] - np.mean(v[5:]) for v in STUDY.values() if v[5] == v[5]),
    "parameters.column": COLUMN, "parameters.printed": COLUMN, "parameters.text": TEXT,
    "miou.epoch_1_gap": 0.00005, "miou.epoch_1_values": sum(np.isfinite(v[3:]).sum() for v in STUDY.values()),
    "miou.first1": 27.3214, "miou.first3": 23.9463, "conventions.zeros": 0,
    "parameters.log5": COLUMN, "parameters.log6": COLUMN,
    "power7.printed": 1.1, "power7.log_power0": 0.9, "power7.log_power1": 1.1, "power7.log_epoch1": 31,
    "run5.printed": 46, "run5.before": 45, "run5.epoch": 46, "run5.train_loss_before": 0.2368,
    "run5.train_loss_after": 0.2792, "run5.val_loss_before": 0.3344, "run5.val_loss_after": 0.3765,
    "run5.val_mIoU_before": 53.98467, "run5.val_mIoU_after": 53.90485, "run8.before": 45, "run8.epoch": 46,
    "run8.train_loss_before": 0.2415, "run8.train_loss_after": 0.4566, "run8.val_loss_before": 0.3214,
    "run8.val_loss_after": 0.6329, "run8.val_mIoU_before": 50.58932, "run8.val_mIoU_after": 50.62095,
    "steps.printed": 2975, "steps.steps": 524, "steps.images": 3 * 524, "steps.batch": 3,
    "parameters.unfrozen": WHOLE, "parameters.whole": WHOLE, "rows.odd": 2, "rows.rows": 8, "rows.shifted": 5,
}  # fmt: skip
# Power and first epoch of each stretch, as the text of the study gives them and as its logs do.
POWERS = {
    "text5": ((1, 0.9), (29, 1.2), (46, 2.0), (47, 1.2)), "log5": ((1, 0.9), (31, 1.0), (46, 2.0), (48, 1.2)),
    "text6": ((1, 0.9), (31, 1.0)), "log6": ((1, 0.9), (29, 1.2), (44, 1.0)),
}  # fmt: skip
AUDIT |= {f"powers.{name}_power{i}": power for name, path in POWERS.items() for i, (_, power) in enumerate(path)}
AUDIT |= {f"powers.{name}_epoch{i}": epoch for name, path in POWERS.items() for i, (epoch, _) in enumerate(path) if i}
# The logs: initial rate, validation mIoU of the first and the last epoch, range and deviation of the last ten.
LOGS = dict(zip([*STUDY, "DeepLabV2_ce05_f05_warmup1500_lr_0.0005"], np.array([
    [1e-4, 27.3214, 50.5006, 1.0586, 0.3079], [1e-4, 24.8598, 50.1048, 0.3513, 0.1265],
    [1e-4, 23.9463, 50.8225, 0.4432, 0.1503], [1e-4, 25.0474, 50.1686, 0.8007, 0.2439],
    [2e-4, 25.6934, 53.7920, 0.6503, 0.1864], [3e-4, 29.4252, 53.9948, 0.8216, 0.2386],
    [2e-4, 28.5452, 53.3067, 0.6958, 0.1886], [1e-4, 25.7124, 50.3708, 0.7139, 0.2176],
    [5e-4, 25.5983, 56.0043, 0.6041, 0.1917],
]), strict=True))  # fmt: skip
LAST = np.array([LOGS[stem] for stem in ALIKE])
for rank, rate in enumerate((1e-4, 2e-4, 3e-4, 5e-4), 1):
    at_rate = [log[2] for log in LOGS.values() if log[0] == rate]
    AUDIT |= {f"order.rate{rank}": rate, f"order.low{rank}": min(at_rate), f"order.high{rank}": max(at_rate)}
AUDIT |= {
    "order.spread": np.ptp(LAST[:, 2]), "order.moved_low": LAST[:, 3].min(), "order.moved_high": LAST[:, 3].max(),
    "order.sd_low": LAST[:, 4].min(), "order.sd_high": LAST[:, 4].max(),
}  # fmt: skip
FROZEN = {"none": WHOLE, "as the text says": TEXT, "as the column fits": COLUMN}

RULES = []


def recomputes(pattern):
    """Register a method of `Recomputed` for the keys that match `pattern`, whose groups are its arguments."""

    def register(rule):
        RULES.append((re.compile(pattern), rule))
        return rule

    return register


def read_csv(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or nan) for row in rows]) for name in rows[0]}


def iou(matrix):
    """IoU in percent of one matrix (19, 19); a class without pixels is NaN."""
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return np.array([100 * hit / of if of else nan for hit, of in zip(np.diag(matrix), union, strict=True)])


def ranks(values):
    """Ranks from 1, ties averaged."""
    return np.array([(np.sum(values < v) + np.sum(values <= v) + 1) / 2 for v in values])


def spearman(a, b):
    return float(np.corrcoef(ranks(np.asarray(a)), ranks(np.asarray(b)))[0, 1])


def roughness(values):
    late = values[len(values) // 2 :]
    return np.sqrt(np.mean([(late[i] - 2 * late[i + 1] + late[i + 2]) ** 2 for i in range(len(late) - 2)]))


def convergence(values):
    return (next(i for i, value in enumerate(values) if value >= 0.9 * values[-1]) + 1) / len(values)


class Draws:
    """Other draws of the images than the report's: measures of every method in each, and their jackknife spread."""

    COUNT = 4000

    def __init__(self, runs, methods):
        """runs: {stem: (confusion (N, 19, 19), boundary F (N,), log loss (N,))}; methods: {name: [stems]}."""
        rng = np.random.default_rng(2024)
        self.runs, self.methods = runs, methods
        images = len(next(iter(runs.values()))[1])
        self.counts = np.array(
            [np.bincount(d, minlength=images) for d in rng.integers(0, images, (self.COUNT, images))]
        )
        self.degrees_of_freedom = len(runs) - len(methods)
        self.luck = dict(zip(methods, rng.standard_normal((len(methods), self.COUNT)), strict=True))
        self.chi2_scale = rng.chisquare(max(1, self.degrees_of_freedom), self.COUNT) / max(1, self.degrees_of_freedom)

    @cache
    def of(self, stem, classes):
        """Value on all images, values of the draws (B,), and the images' influence on each (B, N); None: boundary F."""
        matrices, boundary, log_loss = self.runs[stem]
        if classes == "log_loss":
            pixels = matrices.sum((1, 2)).astype(float)
            total = self.counts @ pixels
            values = self.counts @ (log_loss * pixels) / total
            whole = (log_loss * pixels).sum() / pixels.sum()
            return whole, values, pixels * (log_loss - values[:, None]) / total[:, None]
        if classes is None:
            values = self.counts @ boundary / self.counts.sum(1)
            return boundary.mean(), values, (boundary - values[:, None]) / self.counts.sum(1)[:, None]
        hit = np.array([[m[c, c] for c in classes] for m in matrices], float)
        union = np.array([[m[c].sum() + m[:, c].sum() - m[c, c] for c in classes] for m in matrices], float)
        whole = np.array([iou(matrices.sum(0))[c] for c in classes])
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = (self.counts @ hit) / (self.counts @ union)
            known = np.isfinite(ratio).sum(1)
            spread = [
                (hit[:, k] - ratio[:, [k]] * union[:, k]) / (self.counts @ union[:, k])[:, None]
                for k in range(len(classes))
            ]
            influence = 100 * np.nansum(spread, axis=0) / known[:, None]
            return np.nansum(whole) / np.isfinite(whole).sum(), 100 * np.nansum(ratio, axis=1) / known, influence

    def seed_variance(self, classes):
        if not self.degrees_of_freedom:
            return 0.0
        values = {m: np.array([self.of(s, classes)[0] for s in stems]) for m, stems in self.methods.items()}
        return sum(((v - v.mean()) ** 2).sum() for v in values.values()) / self.degrees_of_freedom

    def studentised(self, weights, classes):
        """Estimate of a weighted sum of methods, its standard error, and signed t of every draw."""
        estimate, values, influence, extra = 0.0, 0.0, 0.0, 0.0
        variance = self.seed_variance(classes)
        for method, weight in weights.items():
            stems = self.methods[method]
            for stem in stems:
                whole, drawn, moved = self.of(stem, classes)
                estimate = estimate + weight * whole / len(stems)
                values = values + weight * drawn / len(stems)
                influence = influence + weight * moved / len(stems)
            values = values + weight * np.sqrt(variance / len(stems)) * self.luck[method]
            extra += weight**2 * variance / len(stems)
        errors = np.sqrt(
            (self.counts * influence**2).sum(1) + extra * (self.chi2_scale if self.degrees_of_freedom else 0)
        )
        deviations = np.where(abs(values - estimate) < 1e-9, 0, values - estimate)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where(deviations == 0, 0, deviations / errors)
        return estimate, self.error(weights, classes, extra), t

    def error(self, weights, classes, extra):
        """Standard error on the images as they are."""
        plain = Draws.__new__(Draws)
        plain.runs, plain.methods = self.runs, self.methods
        plain.counts = np.ones((1, self.counts.shape[1]))
        influence = sum(
            weight * plain.of(stem, classes)[2] / len(self.methods[method])
            for method, weight in weights.items() for stem in self.methods[method]
        )  # fmt: skip
        return float(np.sqrt((influence**2).sum() + extra))

    def intervals(self, family, confidence=0.95, groups=None):
        """{name: (estimate, low, high)} of `{name: (weights, classes)}`: all at once, or by groups of one opponent."""
        rows = {name: self.studentised(*contrast) for name, contrast in family.items()}
        t = {name: np.where(np.isnan(row[2]), np.inf, row[2]) for name, row in rows.items() if self.seen(*family[name])}
        told, together = set(), False
        for name in sorted(t, key=lambda name: np.isinf(t[name]).mean()):
            together = together | np.isinf(t[name])
            if np.mean(together) > (1 - confidence) / 2:
                break
            told.add(name)
        if groups:
            most = [abs(np.max([t[name] for name in group], axis=0)) for group in groups]
        else:
            most = [np.max([abs(t[name]) for name in told], axis=0)]
        width = max(np.quantile(values, confidence) for values in most)
        bounds = {name: width * error if name in told else nan for name, (_, error, _) in rows.items()}
        return {name: (row[0], row[0] - bounds[name], row[0] + bounds[name]) for name, row in rows.items()}

    def seen(self, weights, classes):
        """Of single classes, or the mean of some, one has to occur in five images for every run."""
        if classes is None or classes == "log_loss":
            return True
        confusions = [self.runs[stem][0] for method in weights for stem in self.methods[method]]
        return all((self.shows(matrices, classes).sum() >= 5) for matrices in confusions)

    @staticmethod
    def shows(matrices, classes):
        """Which images show one of the classes, in the label or in the prediction `(N,)`."""
        return sum(matrices[:, c].sum(1) + matrices[:, :, c].sum(1) for c in classes) > 0


# The parts of the claims: kind, the two sides by their losses ("+" contains, "-" contains none), what is compared.
PARTS = {
    "a": [("best", "+lovasz", "-lovasz", "mIoU")],
    "b": [("curve", "ce", "!ce", convergence), ("mean", "ce", "!ce", "mIoU"), ("mean", "ce", "!ce", "rare")],
    "c": [("mean", "!ce", "ce", "mIoU"), ("curve", "!ce", "ce", roughness)],
    "d": [("curve", "+tversky", "-tversky focal", roughness), ("curve", "+focal", "-tversky focal", roughness)],
    "e": [("curve", "+lovasz", "-lovasz", roughness), ("mean", "+lovasz", "-lovasz", "log_loss")],
    "f": [("mean", "+focal", "ce", "rare"), ("mean", "+tversky", "ce", "rare")],
    "g": [("network", "ce", "networks", "parameters"), ("network", "ce", "networks", "macs")],
    "h": [("classes", "+lovasz", "-lovasz", "classes")],
    "i": [("mean", side, "ce", measure) for side in ("+tversky", "+focal") for measure in ("rare", "boundary")],
}


def one_loss(table):
    """The training losses of the epochs before the weights of the loss first changed."""
    weights = np.array([values for name, values in table.items() if name.startswith("weight_")]).T
    others = [place for place, row in enumerate(weights) if (row != weights[0]).any()]
    return table["train_loss"][: min(others, default=len(table["train_loss"]))]


class Recomputed:
    """The numbers of the report on the runs in `folder`, by key; all runs there are of one data set and length."""

    def __init__(self, folder, slack=0.06):
        """slack: how far other draws may move a bound, as a share of half the interval."""
        self.slack, order = slack, list(STUDY)
        self.tables = {path.stem: read_csv(path) for path in sorted(folder.glob("*.csv"))}
        self.records = {stem: json.loads((folder / f"{stem}.json").read_text()) for stem in self.tables}
        self.arrays = {stem: dict(np.load(folder / f"{stem}.npz")) for stem in self.tables}
        costs = folder / "efficiency.json"
        self.costs = json.loads(costs.read_text())["rows"] if costs.exists() else []
        self.methods = {}
        for stem in sorted(self.tables, key=lambda stem: self.records[stem]["config"]["seed"]):
            self.methods.setdefault(re.sub(r"_seed\d+", "", stem), []).append(stem)
        self.recipes = [stem for stem in order if stem in self.methods]
        self.shown = [self.methods[stem][0] for stem in self.recipes]
        self.control = [method for method in self.methods if method.endswith("_schedule_ce")]
        self.ce, self.first = order[0], self.records[order[0]]
        self.total = {stem: arrays["confusion"].sum(0) for stem, arrays in self.arrays.items()}
        self.iou = {stem: iou(total) for stem, total in self.total.items()}
        pixels = self.total[self.ce].sum(1)
        self.share = 100 * pixels / pixels.sum()
        rare = tuple(c for c in range(19) if 0 < self.share[c] < 1)
        self.measures = {"mIoU": tuple(range(19)), "rare": rare, "boundary": None, "log_loss": "log_loss"}
        # Two points of mIoU; what moves it so much in the rare classes alone; in one class; on outlines; in nats.
        self.margins = {"mIoU": 2, "rare": 2 * 19 / len(rare), "boundary": 1, "log_loss": 0.05}
        self.margins |= {"roughness": 0.5, "convergence": 0.1} | dict.fromkeys(NAMES, 5)
        self.measures |= {name: (c,) for c, name in enumerate(NAMES)}

    def __getitem__(self, key):
        for pattern, rule in RULES:
            if match := pattern.fullmatch(key):
                value = rule(self, **match.groupdict())
                if value is None or value != value:
                    return None
                return value if hasattr(value, "abs") else pytest.approx(value, rel=1e-6, abs=1e-9)
        raise KeyError(key)

    @staticmethod
    def known(key):
        return any(pattern.fullmatch(key) for pattern, _ in RULES)

    def wrong(self, numbers):
        """{key: (found, expected)} of the entries of a `numbers.json` whose value is another."""
        values = {key: (entry["value"], self[key]) for key, entry in numbers.items()}
        return {key: pair for key, pair in values.items() if pair[0] != pair[1]}

    def about(self, estimate, low, high):
        """An interval as it may be expected from other draws; bounds that are none are None."""
        slack = max(self.slack * (high - low) / 2, 1e-6)
        bounds = {"low": low, "high": high}
        return {"estimate": estimate} | {
            end: pytest.approx(bound, abs=slack) if np.isfinite(bound) else None for end, bound in bounds.items()
        }

    # --- what several numbers rest on --------------------------------------------------------------------------------

    def draws_of(self, methods):
        stems = [stem for method in methods for stem in self.methods[method]]
        names = ("boundary_f", "log_loss")
        runs = {
            stem: (self.arrays[stem]["confusion"], *(self.arrays[stem][name].astype(float) for name in names))
            for stem in stems
        }
        return Draws(runs, {method: self.methods[method] for method in methods})

    @property
    def draws(self):
        if not hasattr(self, "_draws"):
            self._draws = self.draws_of(self.methods)
        return self._draws

    def gap(self, a, b, measure="mIoU"):
        """The mean of the methods `a` minus that of the methods `b`."""
        return {m: 1 / len(a) for m in a} | {m: -1 / len(b) for m in b}, self.measures[measure]

    def level(self, method, measure="mIoU"):
        values = [self.draws.of(stem, self.measures[measure])[0] for stem in self.methods[method]]
        return float(np.mean(values))

    def class_rows(self):
        """IoU of the recipes (R, 19), averaged over seeds."""
        return np.array([np.mean([self.iou[stem] for stem in self.methods[m]], axis=0) for m in self.recipes])

    def ends(self, values, end):
        return {"low": min, "high": max}[end](values)

    def last(self, column):
        return [self.tables[stem][column][-1] for stem in self.shown]

    @cache
    def pairs(self):
        shown = [*combinations(self.recipes, 2), *((method, self.ce) for method in self.control)]
        found = {pair: self.main()[pair] for pair in shown}
        return found | {(b, a): (-e, -high, -low) for (a, b), (e, low, high) in found.items()}

    @cache
    def levels(self, measure):
        return self.draws.intervals({m: ({m: 1.0}, self.measures[measure]) for m in self.recipes})

    def order(self):
        return sorted(self.recipes, key=lambda m: -self.level(m))

    def rank(self, method, end):
        surely = sum(self.pairs()[other, method][1] > 0 for other in self.recipes if other != method)
        beaten = sum(self.pairs()[method, other][1] > 0 for other in self.recipes if other != method)
        return {"best": 1 + surely, "worst": len(self.recipes) - beaten}[end]

    def losses(self, method):
        return LOSSES[re.sub("_schedule_ce$", "", method)]

    def side(self, members, wanted):
        chosen = set(wanted[1:].split())
        rules = {
            "+": lambda m: self.losses(m) & chosen,
            "-": lambda m: not self.losses(m) & chosen,
            "!": lambda m: m != self.ce,
            "c": lambda m: m == self.ce,
        }
        if wanted == "networks":
            own = self.first["config"]["model"]
            return tuple(m for m in self.methods if self.records[m]["config"]["model"] != own)
        return tuple(m for m in members if rules[wanted[0]](m))

    @cache
    def parts(self, claim):
        """[(kind, a, b, what)], one for each finding of the claim: first among runs of one schedule, then among all."""
        found = []
        for kind, a, b, what in PARTS[claim]:
            scopes = [(self.side(m, a), self.side(m, b)) for m in ([*self.runs_alike(), *self.control], self.recipes)]
            if {*scopes[0][0], *scopes[0][1]} == {*scopes[1][0], *scopes[1][1]}:
                scopes = scopes[:1]
            found += [(kind, *sides, what) for sides in scopes if all(sides)]
        return found

    def runs_alike(self):
        return [m for m in self.recipes if m in ALIKE]

    @cache
    def main(self):
        """The family of most claims, together with all pairs, and with boundaries against CE."""
        family = {(a, b): self.gap([a], [b]) for a, b in combinations(self.recipes, 2)}
        family |= {(m, self.ce): self.gap([m], [self.ce]) for m in self.control}
        family |= {(m, self.ce, "boundary"): self.gap([m], [self.ce], "boundary") for m in self.recipes if m != self.ce}
        for kind, a, b, what in (part for claim in PARTS for part in self.parts(claim)):
            if kind == "mean":
                family[a, b, what] = self.gap(a, b, what)
            if kind == "network":
                family |= {(other, "network"): self.gap([other], a) for other in b}
        return self.draws.intervals(family)

    @cache
    def single_classes(self):
        parts = [part for part in self.parts("h")]
        return self.draws.intervals(
            {(a, b, name): self.gap(a, b, name) for _, a, b, _ in parts for name in NAMES}, 0.995
        )

    @cache
    def finding(self, claim, number):
        """The figures of one finding."""
        kind, a, b, what = self.parts(claim)[number]
        if kind == "mean":
            row = self.main()[a, b, what]
            return self.about(*row) | self.power(row, self.gap(a, b, what), self.margins[what])
        if kind == "best":
            family = {pair: self.gap([pair[0]], [pair[1]]) for x in a for y in b for pair in ((x, y), (y, x))}
            groups = [[(x, y) for x in a] for y in b] + [[(y, x) for y in b] for x in a]
            top = [max(side, key=self.level) for side in (a, b)]
            rows = self.draws.intervals(family, groups=groups)
            figures = self.about(*rows[tuple(top)])
            widest = max(rows, key=lambda pair: rows[pair][2] - rows[pair][1])
            figures |= self.power(rows[tuple(top)], family[tuple(top)], 2, (rows[widest], family[widest]))
            return figures | dict(zip(("with", "without"), map(self.level, top), strict=True)) | {
                "have": len(a + b), "all": 8}  # fmt: skip
        if kind == "network":
            cheap = [o for o in b if self.cost(o, what) <= self.cost(self.ce, what)]
            same = [o for o in b if max(map(abs, self.main()[o, "network"][1:])) < 2]
            better = [o for o in cheap if self.main()[o, "network"][1] > 0 and o not in same]
            worse = [o for o in b if self.main()[o, "network"][2] < 0 and o not in same]
            equal = [o for o in cheap if o in same]
            widest = max(cheap, key=lambda o: np.subtract(*self.main()[o, "network"][:0:-1]))
            power = self.power(None, None, 2, (self.main()[widest, "network"], self.gap([widest], a)))
            return power | {"others": len(b), "cheaper": len(cheap), "better": len(better), "worse": len(worse),
                              "equal": len(equal)}  # fmt: skip
        if kind == "classes":
            rows = {name: self.single_classes()[a, b, name] for name in NAMES}
            rows = {name: row for name, row in rows.items() if row[0] == row[0]}
            lost = [name for name, row in rows.items() if row[2] < 0 and row[1] <= -5]
            worst = min(lost or rows, key=lambda name: rows[name][0])
            counts = {"behind": sum(row[0] < 0 for row in rows.values()), "classes": len(rows), "lost": len(lost)}
            left = {name: row for name, row in rows.items() if row[1] <= -5 and name not in lost}
            widest = max(left, key=lambda name: left[name][2] - left[name][1], default=worst)
            power = self.power(None, None, 5, (rows[widest], self.gap(a, b, widest)))
            return counts | self.about(*rows[worst]) | power
        values = [[self.curve(stem, what) for m in side for stem in self.methods[m]] for side in (a, b)]
        row = self.curves()[a, b, what]
        figures = {"a": np.mean(values[0]), "b": np.mean(values[1]), "n_a": len(values[0]), "n_b": len(values[1])}
        if math.isnan(row[1]):
            return figures | self.about(*row[:3])
        return (
            figures | self.about(*row[:3]) | self.power(row[:3], (row[3], 0.0, self.fewest(a + b)), self.of_curve(what))
        )

    def of_curve(self, statistic):
        return self.margins[statistic.__name__]

    def fewest(self, methods):
        return min(len(self.methods[m]) for m in methods)

    @cache
    def curves(self):
        """{(a, b, statistic): (estimate, low, high, variance)} of all parts on curves: Student's t, at once, 99 %."""
        rng, rows, drawn = np.random.default_rng(7), {}, []
        parts = {part[1:] for claim in PARTS for part in self.parts(claim) if part[0] == "curve"}
        for statistic in (roughness, convergence):
            values = {m: np.array([self.curve(s, statistic) for s in stems]) for m, stems in self.methods.items()}
            free = sum(len(v) - 1 for v in values.values())
            if not free:  # of one seed each, nothing says how much trainings vary
                rows |= {p: (sum(w * values[m].mean() for m, w in self.gap(*p[:2])[0].items()), *[math.nan] * 3)
                         for p in parts if p[2] is statistic}  # fmt: skip
                continue
            pooled = sum(((v - v.mean()) ** 2).sum() for v in values.values()) / free
            pooled += (statistic is convergence) / len(self.tables[self.ce]["epoch"]) ** 2 / 12
            luck = {m: rng.standard_normal(20_000) / np.sqrt(len(v)) for m, v in values.items()}
            scale = np.sqrt(rng.chisquare(free, 20_000) / free)
            for a, b, what in parts:
                if what is not statistic:
                    continue
                weights, _ = self.gap(a, b)
                size = np.sqrt(sum(w**2 / len(values[m]) for m, w in weights.items()))
                drawn.append(abs(sum(w * luck[m] for m, w in weights.items())) / size / scale)
                rows[a, b, what] = sum(w * values[m].mean() for m, w in weights.items()), np.sqrt(pooled) * size
        width = np.quantile(np.max(drawn, axis=0), 0.99) if drawn else math.nan
        return {
            key: row if len(row) == 4 else (row[0], row[0] - width * row[1], row[0] + width * row[1], row[1] ** 2)
            for key, row in rows.items()
        }

    def power(self, row, contrast, margin, widest=None):
        """What would settle a difference: the figures of an inconclusive finding, as they may be with other draws."""
        figures = {"margin": margin}
        for key, (interval, parts) in {"seen": (row, contrast), "any": widest or (row, contrast)}.items():
            if interval is None:
                continue
            estimate, low, high = interval
            images, seeds, number = parts if isinstance(parts[1], float) else self.variances(*parts)
            if isinstance(parts[1], float):
                images, seeds = 0.0, images
            reach = (high - low) / 2 / np.sqrt(images + seeds)
            found = [self.settle(estimate, images, seeds, number, q, margin, key)
                     for q in (reach * (1 - self.slack), reach, reach * (1 + self.slack))]  # fmt: skip
            for name in found[1]:
                values = [one.get(name, math.inf) for one in found]
                figures[f"{name}_{key}"] = pytest.approx(values[1], abs=float(max(values) - min(values)) + 2)
        return figures

    def variances(self, weights, classes):
        """Variance of a difference from images and from seeds, and the fewest seeds of its methods."""
        extra = self.draws.seed_variance(classes) * sum(w**2 / len(self.methods[m]) for m, w in weights.items())
        return self.draws.error(weights, classes, 0.0) ** 2, extra, self.fewest(weights)

    def settle(self, estimate, images, seeds, number, q, margin, key):
        size = abs(estimate)
        target = (max(size, margin - size) / (q + 0.8416) if key == "seen" else margin / 2 / q) ** 2
        found = {}
        if target > seeds and images:
            found["images"] = math.ceil(len(self.arrays[self.ce]["names"]) * images / (target - seeds))
        if target > images and seeds:
            found["seeds"] = math.ceil(number * seeds / (target - images))
        return found or {"times": (images + seeds) / target}

    def curve(self, stem, statistic):
        return statistic(self.tables[stem]["val_mIoU"])

    def cost(self, method, what):
        record = self.records[method]
        return record["macs"] if what == "macs" else record["parameters"]["total"]

    # --- tables ------------------------------------------------------------------------------------------------------

    @recomputes(r"(results|ablations)\.(?P<stem>.+)\.(?P<column>\w+)")
    def _(self, stem, column):
        record, curve = self.records[stem], self.tables[stem]["val_mIoU"]
        if column.startswith("latency"):
            config = record["config"]
            place = [config["model"], config["image_height"], config["image_width"]]
            row = next(r for r in self.costs if [r["model"], r["height"], r["width"]] == place and r["latency_ms"])
            return row["latency_ms"][{"latency_ms": "median"}[column]]
        stems = self.methods[re.sub(r"_seed\d+", "", stem)]
        finals = [np.nanmean(self.iou[s]) for s in stems]
        if len(stems) > 1 and column == "best_epoch":
            return None
        return {
            "val_mIoU": np.mean(finals), "best_val_mIoU": np.mean([self.tables[s]["val_mIoU"].max() for s in stems]),
            "sd": np.std(finals, ddof=1) if len(finals) > 1 else None, "seeds": len(stems) if len(stems) > 1 else None,
            "best_epoch": self.tables[stem]["epoch"][curve.argmax()], "GMACs": record["macs"] / 1e9,
            "parameters": record["parameters"]["total"], "trainable_at_end": record["parameters"]["trainable_at_end"],
        }[column]  # fmt: skip

    @recomputes(r"published\.(?P<stem>.+)\.published_(?P<column>\w+)")
    def _(self, stem, column):
        return {"FLOPs_G": 374.66}.get(column) or STUDY[stem][["val_mIoU", "latency", "parameters"].index(column)]

    @recomputes(r"classes\.(?P<stem>.+)\.(?P<column>[\w ]+)")
    def _(self, stem, column):
        stems = self.methods[stem]
        if column == "train_mIoU":
            return np.mean([self.tables[s]["train_mIoU"][-1] for s in stems])
        rows = [self.iou[s] for s in stems]
        return np.mean([np.nanmean(row) if column == "val_mIoU" else row[NAMES.index(column)] for row in rows])

    @recomputes(r"published-classes\.(?P<stem>.+)\.(?P<column>[\w ]+)")
    def _(self, stem, column):
        return STUDY[stem][3:][["train_mIoU", "val_mIoU", *NAMES].index(column)]

    @recomputes(r"means\.(?P<stem>.+)\.(?P<column>\w+)")
    def _(self, stem, column):
        values = STUDY[stem]
        return {"results_mIoU": values[0], "last_row_mIoU": values[4], "mean_of_classes": np.mean(values[5:])}[column]

    @recomputes(r"ranking\.(?P<stem>.+)\.(?P<column>\w+)")
    def _(self, stem, column):
        if column in ("best", "worst"):
            return self.rank(stem, column)
        return self.about(*self.levels("mIoU")[stem])[column.replace("value", "estimate")]

    @recomputes(r"neighbours\.(?P<upper>.+) over (?P<lower>.+)\.(?P<column>\w+)")
    def _(self, upper, lower, column):
        stems = {title: stem for stem, title in TITLES.items()}
        pair = stems[upper], stems[lower]
        assert self.order().index(pair[1]) == self.order().index(pair[0]) + 1
        return self.about(*self.pairs()[pair])[column]

    @recomputes(r"efficiency\.(?P<model>\w+), (?P<width>\d+)×(?P<height>\d+)(?P<onnx>, ONNX Runtime)?\.(?P<column>\w+)")
    def _(self, model, width, height, onnx, column):
        place = [model, int(width), int(height)]
        row = next(row for row in self.costs if [row["model"], row["width"], row["height"]] == place)
        latency = (row["onnx_runtime"] if onnx else row)["latency_ms"] or {}
        if onnx and column not in ("latency", "q1", "q3"):
            return None
        if column in ("q1", "q3") and latency.get("n") == 1:
            return None
        return {
            "parameters": row["parameters"], "GMACs": row["macs"] / 1e9, "GFLOPs": row["flops"] / 1e9,
            "latency": latency.get("median"), "q1": latency.get("q1"), "q3": latency.get("q3"),
            "memory": row["peak_memory_MB"],
        }[column]  # fmt: skip

    @recomputes(r"beyond\.(?P<method>.+)\.(?P<column>\w+)")
    def _(self, method, column):
        stems = self.methods[method]
        record = self.records[stems[0]]
        if column in ("difference", "low", "high"):
            return None if method == self.ce else self.gains()[method][column.replace("difference", "estimate")]
        return {
            "seeds": len(stems), "epochs": record["config"]["epochs"], "mIoU": self.level(method),
            "seconds": np.mean([self.records[stem]["wall_time_s"] for stem in stems]),
            "tested_GMACs": record["macs"] / 1e9,
        }[column]  # fmt: skip

    @cache
    def gains(self):
        """What departs from the recipes, against CE, from images drawn for these runs alone."""
        changed = [method for method in self.methods if method not in [*STUDY, *self.control]]
        found = self.draws_of([self.ce, *changed]).intervals({m: self.gap([m], [self.ce]) for m in changed})
        return {method: self.about(*row) for method, row in found.items()}

    @recomputes(r"configuration\.(?P<stem>.+)\.(?P<column>\w+)")
    def _(self, stem, column):
        return self.records[stem]["config"][column]

    @recomputes(r"freezing\.(?P<frozen>[\w ]+)\.(?P<column>\w+)")
    def _(self, frozen, column):
        return {"total": TOTAL, "trainable": FROZEN[frozen]}[column]

    @recomputes(r"published-claims\.(?P<claim>\w)\.(?P<part>\d)")
    def _(self, claim, part):
        """The published differences in mIoU behind the claims: best with Lovász, CE alone, combinations."""
        rest = [values[0] for stem, values in STUDY.items() if stem in ALIKE[1:]]
        best = {name: max(v[0] for stem, v in STUDY.items() if ("lovasz" in LOSSES[stem]) == name) for name in (0, 1)}
        return {"a": best[1] - best[0], "b": 50.50 - np.mean(rest), "c": np.mean(rest) - 50.50}[claim]

    @recomputes(r"reading\.resamples")
    def _(self):
        return 10_000

    @recomputes(r"study-logs\.(?P<stem>.+)\.(?P<column>\w+)")
    def _(self, stem, column):
        return LOGS[stem][["initial_lr", "first_val_mIoU", "val_mIoU", "late_range", "late_deviation"].index(column)]

    # --- text --------------------------------------------------------------------------------------------------------

    @recomputes(r"audit\.(?P<point>[\w.]+)")
    def _(self, point):
        return AUDIT[point]

    @recomputes(r"claims\.(?P<claim>\w)\.(?P<number>\d+)\.(?P<figure>\w+)")
    def _(self, claim, number, figure):
        return self.finding(claim, int(number))[figure]

    @recomputes(r"architectures\.gmacs")
    def _(self):
        return MACS / 1e9

    @recomputes(r"(data|model|training)\.(?P<name>\w+)")
    def _(self, name):
        config, dataset, parameters = (self.first[part] for part in ("config", "dataset", "parameters"))
        epochs = len(self.tables[self.ce]["epoch"])
        return {
            "train": dataset["train"], "val": len(self.arrays[self.ce]["names"]), "height": config["image_height"],
            "width": config["image_width"], "parameters": parameters["total"], "trainable": parameters["trainable"],
            "gmacs": self.first["macs"] / 1e9, "epochs": epochs, "batch": config["batch_size"],
            "seen": epochs * dataset.get("train_each_epoch", dataset["train"]), "lr_factor": config["lr_factor"],
            "epoch": dataset.get("train_each_epoch"),
            "epochs_per_pass": dataset["train"] / dataset.get("train_each_epoch", dataset["train"]),
        }[name]  # fmt: skip

    @recomputes(r"reading\.change\.(?P<stem>.+)\.(?P<number>\d+)")
    def _(self, stem, number):
        epochs, places = self.records[stem]["config"]["epochs"], []
        for at in (change["at"] * epochs for change in self.records[stem]["changes"]):
            places += [at] if at not in places else []
        return places[int(number) - 1]

    @recomputes(r"reading\.losses\.rise\.(?P<stem>.+)")
    def _(self, stem):
        table = self.tables[stem]
        weights = np.array([values for name, values in table.items() if name.startswith("weight_")]).T
        others = [place for place, row in enumerate(weights) if (row != weights[-1]).any()]
        losses = table["val_loss"][max(others, default=-1) + 1 :]
        return 100 * (losses[-1] / losses.min() - 1)

    @recomputes(r"reading\.(?P<what>losses\.fell|val_ce|train_mIoU|val_mIoU|gap|early|duration|epoch_time|boundary"
                r"|seeds\.sd|final)\.(?P<end>low|high)")  # fmt: skip
    def _(self, what, end):
        tables = [self.tables[stem] for stem in self.shown]
        values = {
            "losses.fell": [100 * (1 - one_loss(t)[-1] / t["train_loss"][0]) for t in tables],
            "val_ce": self.last("val_ce"),
            "train_mIoU": self.last("train_mIoU"),
            "val_mIoU": self.last("val_mIoU"),
            "gap": [t["train_mIoU"][-1] - t["val_mIoU"][-1] for t in tables],
            "early": [convergence(t["val_mIoU"]) * len(t["epoch"]) for t in tables],
            "duration": [t["Runtime"].sum() / self.unit() for t in tables],
            "epoch_time": [t["Runtime"].mean() for t in tables],
            "boundary": [self.level(method, "boundary") for method in self.recipes],
            "final": [self.level(method) for method in self.recipes],
            "seeds.sd": [
                np.std([self.tables[stem]["val_mIoU"][-1] for stem in self.methods[method]], ddof=1)
                for method in self.recipes if len(self.methods[method]) > 1
            ],
        }[what]  # fmt: skip
        return self.ends(values, end)

    def unit(self):
        """Seconds in the unit that the longest run is told in."""
        longest = max(self.tables[stem]["Runtime"].sum() for stem in self.shown)
        return 3600 if longest >= 7200 else 60 if longest >= 120 else 1

    @recomputes(r"reading\.duration\.all")
    def _(self):
        return sum(self.tables[stem]["Runtime"].sum() for stem in self.shown) / self.unit()

    @recomputes(r"reading\.val_ce\.rank_correlation")
    def _(self):
        return spearman(self.last("val_ce"), self.last("val_loss"))

    @recomputes(r"reading\.val_mIoU\.lost")
    def _(self):
        return max(self.tables[stem]["val_mIoU"].max() - self.tables[stem]["val_mIoU"][-1] for stem in self.shown)

    @recomputes(r"reading\.ranking\.last")
    def _(self):
        return self.rank(self.order()[-1], "best")

    @recomputes(r"reading\.ranking\.(?P<method>.+)")
    def _(self, method):
        assert method == self.order()[0]
        return self.level(method)

    @recomputes(r"reading\.headline\.(?P<what>margin|high|images)")
    def _(self, what):
        """At equal schedule: the margin, the largest gain over CE that the intervals leave open, the images."""
        equal = [m for m in [*self.runs_alike(), *self.control] if m != self.ce]
        estimate, low, high = max((self.pairs()[m, self.ce] for m in equal), key=lambda row: row[2])
        images = len(self.arrays[self.ce]["names"])
        return {"margin": 2, "images": images, "high": self.about(estimate, low, high)["high"]}[what]

    @recomputes(r"discussion\.reach")
    def _(self):
        """The widest interval of a difference from CE at equal schedule, by half."""
        equal = [m for m in [*self.runs_alike(), *self.control] if m != self.ce]
        return pytest.approx(max((high - low) / 2 for _, low, high in (self.pairs()[m, self.ce] for m in equal)),
                             rel=self.slack)  # fmt: skip

    @recomputes(r"reading\.seeds\.share")
    def _(self):
        """The part of the seeds in the variance of a difference from CE, in percent: the median of all of them."""
        shares = []
        for method in (*self.recipes[1:], *self.control):
            weights, classes = self.gap([method], [self.ce])
            extra = self.draws.seed_variance(classes) * sum(w**2 / len(self.methods[m]) for m, w in weights.items())
            shares.append(100 * extra / self.draws.error(weights, classes, extra) ** 2)
        return np.median(shares)

    @recomputes(r"reading\.margin\.(?P<measure>mIoU|ece)")
    def _(self, measure):
        return {"mIoU": 2, "ece": 1}[measure]

    def bins(self, method):
        """Per seed of a method: hits minus confidence and pixels by image and bin (N, 15)."""
        arrays = [self.arrays[stem] for stem in self.methods[method]]
        name = "calibration_"
        return [(a[name + "hits"] - a[name + "confidence"], a[name + "count"].astype(float)) for a in arrays]

    @cache
    def calibration(self):
        """{(method, other or None): (estimate, low, high)}: levels of the error and its differences from CE."""
        rng = np.random.default_rng(99)
        images = len(self.arrays[self.ce]["names"])
        draws = np.array([np.bincount(d, minlength=images) for d in rng.integers(0, images, (4000, images))])
        parts = {}
        for method in self.recipes:
            seeds = []
            for gaps, counts in self.bins(method):

                def of(weights, gaps=gaps, counts=counts):
                    summed, total = weights @ gaps, (weights @ counts).sum(1)
                    value = 100 * abs(summed).sum(1) / total
                    moved = 100 * np.sign(summed) @ gaps.T - value[:, None] * counts.sum(1)
                    return value, moved / total[:, None]

                seeds.append((of(np.ones((1, images))), of(draws)))
            parts[method] = seeds
        first = {m: np.array([seed[0][0][0] for seed in seeds]) for m, seeds in parts.items()}
        free = sum(len(v) - 1 for v in first.values())
        pooled = sum(((v - v.mean()) ** 2).sum() for v in first.values()) / free if free else 0.0
        scale = rng.chisquare(free, 4000) / free if free else 1.0
        luck = {m: rng.standard_normal(4000) * np.sqrt(pooled / len(v)) for m, v in first.items()}
        rows = {}
        for method in self.recipes:
            for other in (None, *([self.ce] if method != self.ce else [])):
                signs = {method: 1} | ({other: -1} if other else {})
                plain, drawn = (
                    [sum(sign * np.mean([seed[i][j] for seed in parts[m]], axis=0) for m, sign in signs.items())
                     for j in (0, 1)] for i in (0, 1)
                )  # fmt: skip
                extra = sum(pooled / len(first[m]) for m in signs)
                error = np.sqrt((plain[1] ** 2).sum() + extra)
                gap = drawn[0] - plain[0] + sum(sign * luck[m] for m, sign in signs.items())
                t = abs(gap) / np.sqrt((draws * drawn[1] ** 2).sum(1) + extra * scale)
                rows[method, other] = float(plain[0][0]), float(error), t
        width = np.quantile(np.max([t for _, _, t in rows.values()], axis=0), 0.95)
        return {key: (e, e - width * error, e + width * error) for key, (e, error, _) in rows.items()}

    @recomputes(r"calibration\.(?P<method>.+)\.(?P<column>\w+)")
    def _(self, method, column):
        if column == "overconfidence":
            return np.mean([-100 * gaps.sum() / counts.sum() for gaps, counts in self.bins(method)])
        if column.startswith("difference") and method == self.ce:
            return None
        key = (method, self.ce if column.startswith("difference") else None)
        end = column.removeprefix("difference").strip("_").replace("ece", "") or "estimate"
        return self.about(*self.calibration()[key])[end]

    @cache
    def scores(self, method):
        """Mean IoU of every image over the classes labelled in it, averaged over seeds."""
        stored = [self.arrays[stem]["confusion"] for stem in self.methods[method]]
        return np.mean([[np.mean(iou(m)[m.sum(1) > 0]) for m in matrices] for matrices in stored], axis=0)

    @cache
    def wins(self, method):
        gap = self.scores(method) - self.scores(self.ce)
        n, share = len(gap), np.mean((gap > 1e-9) + 0.5 * (abs(gap) <= 1e-9))
        z = NormalDist().inv_cdf(1 - 0.025 / (len(self.recipes) - 1))
        roots = np.roots([n + z * z, -(2 * n * share + z * z), n * share**2])  # Wilson: where |share - p| is z errors
        return {"estimate": 100 * share, "low": 100 * min(roots), "high": 100 * max(roots)}

    @recomputes(r"wins\.(?P<method>.+)\.(?P<column>\w+)")
    def _(self, method, column):
        return self.wins(method)[column]

    @recomputes(r"reading\.(?P<what>ece|wins)\.(?P<end>low|high)")
    def _(self, what, end):
        if what == "ece":
            return self.ends([self.calibration()[method, None][0] for method in self.recipes], end)
        return self.ends([self.wins(method)["estimate"] for method in self.recipes if method != self.ce], end)

    @recomputes(r"reading\.(?P<verdict>supported|contradicted|no|inconclusive)\.(?P<method>.+)")
    def _(self, verdict, method):
        estimate, low, high = self.pairs()[method, self.ce]
        within = low > -2 and high < 2
        sides = "supported" if low > 0 else "contradicted" if high < 0 else "inconclusive"
        assert verdict == ("no" if within else sides)
        return estimate

    @recomputes(r"differences\.(?P<method>.+)\.(?P<column>estimate|low|high)")
    def _(self, method, column):
        return self.about(*self.pairs()[method, self.ce])[column]

    @recomputes(r"reading\.classes\.(?P<end>top|bottom)\.(?P<name>[\w ]+)")
    def _(self, end, name):
        means = np.nanmean(self.class_rows(), axis=0)
        place = sorted(means[np.isfinite(means)], reverse=end == "top").index(means[NAMES.index(name)])
        assert place < 3
        return means[NAMES.index(name)]

    @recomputes(r"reading\.classes\.(?P<what>spread|cells|gains|losses)")
    def _(self, what):
        rows = self.class_rows()
        gaps = rows[1:] - rows[0]
        return {
            "spread": np.nanmax(np.nanmax(rows, axis=0) - np.nanmin(rows, axis=0)),
            "cells": np.isfinite(gaps).sum(),
            "gains": (gaps > 0).sum(),
            "losses": (gaps < 0).sum(),
        }[what]

    @recomputes(r"reading\.classes\.(?P<what>gains|losses)\.decided")
    def _(self, what):
        family = {(m, c): self.gap([m], [self.ce], c) for m in self.recipes if m != self.ce for c in NAMES}
        bounds = [(low, high) for _, low, high in self.draws.intervals(family).values()]
        return pytest.approx(sum(low > 0 if what == "gains" else high < 0 for low, high in bounds), abs=1)

    def by_rate(self):
        """{initial rate: final mIoUs of the runs shown that began with it}."""
        found = {}
        for stem in self.shown:
            found.setdefault(self.records[stem]["config"]["lr"], []).append(np.nanmean(self.iou[stem]))
        return found

    @recomputes(r"logs\.rate\.(?P<rate>[\d.e-]+)\.(?P<end>low|high)")
    def _(self, rate, end):
        (values,) = [values for known, values in self.by_rate().items() if f"{known:g}" == rate]
        return self.ends(values, end)

    @recomputes(r"logs\.rate\.(?P<what>gain|within)")
    def _(self, what):
        groups = [values for _, values in sorted(self.by_rate().items())]
        if what == "gain":
            return min(groups[-1]) - max(groups[0])
        return max(max(values) - min(values) for values in groups)

    @recomputes(r"reading\.rate\.(?P<what>val|train)")
    def _(self, what):
        rates = [self.records[self.methods[method][0]]["config"]["lr"] for method in self.recipes]
        trained = [self.tables[self.methods[method][0]]["train_mIoU"][-1] for method in self.recipes]
        return spearman(rates, [self.level(method) for method in self.recipes] if what == "val" else trained)

    @recomputes(r"reading\.frequency\.(?P<what>rare|common|rank)")
    def _(self, what):
        mean = np.nanmean(self.class_rows(), axis=0)
        known = (self.share > 0) & np.isfinite(mean)
        share = self.share[known]
        return {"rare": share.min(), "common": share.max(), "rank": spearman(share, mean[known])}[what]

    @recomputes(r"reading\.confusion\.(?P<label>[\w ]+)\.(?P<predicted>[\w ]+)")
    def _(self, label, predicted):
        row = sum(self.total[stem] for stem in self.methods[self.order()[0]])[NAMES.index(label)]
        return 100 * row[NAMES.index(predicted)] / row.sum()

    @recomputes(r"reading\.images\.kept")
    def _(self):
        return len(self.arrays[self.ce]["prediction_names"])

    @recomputes(r"reading\.images\.(?P<role>best|median|worst|most disputed)(?P<gap>\.range)?")
    def _(self, role, gap):
        kept = list(self.arrays[self.ce]["prediction_names"])
        rows = [list(self.arrays[self.ce]["names"]).index(name) for name in kept]
        matrices = np.array([[self.arrays[stem]["confusion"][row] for stem in self.shown] for row in rows])
        scores = np.array([[np.mean([iou(m)[c] for c in range(19) if m[c].sum()]) for m in ms] for ms in matrices])
        order = np.argsort(-scores.mean(1), kind="stable")
        chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        maps = np.array([self.arrays[stem]["predictions"] for stem in self.shown])
        disputed = (maps != maps[0]).any(0).mean((1, 2))
        left = [place for place in order if place not in chosen.values()] or order
        chosen["most disputed"] = max(left, key=lambda place: disputed[place])
        values = scores[chosen[role]]
        return np.ptp(values) if gap else values.mean()


# --- printed text -----------------------------------------------------------------------------------------------------

NUMBER = r"[-+]?\d[\d.]*(?:e[-+]?\d+)?"


def plain(text):
    """Words as they are read: one kind of space and minus, no soft hyphens, no separators in numbers."""
    text = re.sub("[\u2212\u2010\u2011]", "-", re.sub("[\u00ad\u200b\u2060\u2062]", "", text))
    return re.sub(r"\s+", " ", re.sub(r"(?<=\d)[,\u2009\u202f](?=\d{3}\b)", "", text))


class Page(HTMLParser):
    """The visible words of a page, and the cells of its tables by label."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tables, self.cells, self.hidden = [], {}, None, 0
        self.feed(page)
        self.text = plain("".join(self.words))

    def handle_starttag(self, tag, attributes):
        label = dict(attributes).get("id") or ""
        if label.startswith("tbl-"):
            self.cells = self.tables.setdefault(label, [])
        self.hidden += tag in ("style", "annotation", "script")
        if self.cells is not None and tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "annotation", "script")
        self.cells = None if tag == "table" else self.cells
        self.words.append(" " if tag in ("td", "th", "p", "li", "tr") else "")

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)
            if self.cells:
                self.cells[-1] += data


def lacking(numbers, text):
    """The keys whose printed text does not stand in `text` by itself."""
    words = set(re.findall(NUMBER, text))
    words |= {word.lstrip("+-") for word in words} | {word.rstrip(".") for word in words}
    return [key for key, entry in numbers.items() if entry["value"] is not None and plain(entry["text"]) not in words]
