"""Figures in words: what a reader who cannot see one is told."""

import numpy as np
import pandas as pd
import pytest
from helpers.synthetic_runs import write_runs

from deeplab_lib.analysis import gallery, pictures, plots
from deeplab_lib.analysis.alt_text import describe
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.study.results import read_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder, recipes=("ce", "ce_dice"), images=4, preset="smoke")
    return read_runs(folder)


def test_curves_are_told_by_their_ends(runs):
    losses = [run.table["val_loss"].to_numpy() for run in runs]
    told = "; ".join(f"{run.label} {course}" for run, course in zip(runs, map(ends, losses), strict=True))
    assert (
        describe(plots.curves(runs, "val_loss", "validation loss"))
        == f"Validation loss against epochs trained: {told}."
    )


def ends(values):
    assert values.max() == values[0], "these losses only fall"
    return f"from {values[0]:.3g} to {values[-1]:.3g}"


def test_a_curve_that_rises_and_falls_is_told_by_its_peak_too(runs):
    values = plots.rates(runs[0])[1]
    course = f"from {values[0]:.3g} over {values.max():.3g} to {values[-1]:.3g}"
    assert f"CE {course}; " in describe(plots.learning_rates(runs))


def test_every_panel_is_told_with_the_label_that_it_shares(runs):
    panels = describe(plots.curve_grid(runs, "train_mIoU", "val_mIoU", "mIoU (%)", share=True)).split(". ")
    assert [panel.partition(":")[0] for panel in panels] == ["CE", "CE + Dice"]
    assert all("mIoU (%) against epochs trained: training from" in panel for panel in panels)


def test_rows_are_told_with_what_is_printed_beside_them():
    table = pd.DataFrame({"name": ["CE", "CE + Dice"], "estimate": [2.0, -1.0], "low": [1.0, -3.0], "high": [3.0, 1.0]})
    told = "Difference (points): CE +2.00 [+1.00, +3.00]; CE + Dice −1.00 [−3.00, +1.00]."
    assert describe(plots.forest(table, "difference (points)")) == told


def test_cells_are_told_by_rows_and_span():
    iou = pd.DataFrame([[50.0, 20.0], [47.5, np.nan]], ["base", "other"], ["road", "rider"])
    told = describe(pictures.heat_map(iou, {"base": "Base", "other": "Other"}, "base"))
    assert told.startswith("IoU (%): 2 rows (Base, Other), 2 columns, from 20 to 50. Difference from Base")


def test_pictures_are_told_by_their_titles(runs):
    labels = np.zeros((4, 8), np.uint8)
    fig = pictures.predictions(np.zeros((4, 8, 3), np.uint8), labels, {"a": labels}, {"a": "CE\n100.0 %"})
    assert describe(fig) == "Pictures: image, ground truth, share of runs that are wrong, CE 100.0 %."


def test_the_gallery_describes_what_it_shows(runs, monkeypatch):
    told = []
    monkeypatch.setattr(
        gallery.report, "figure", lambda fig, label, caption, alt, **options: told.append((caption, alt))
    )
    made = gallery.Gallery("toy city (synthetic)", Numbers(), {})
    made.say("", made.figure("val-ce", plots.curves, runs, "val_ce", "cross-entropy"))
    ((caption, alt),) = told
    assert alt != caption and alt.startswith("Cross-entropy against epochs trained: CE from")
