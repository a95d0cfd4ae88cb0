"""Every figure of the report: from eight runs, from one, from old CSVs, from a run that is not finished."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.synthetic_runs import write_runs
from matplotlib.text import Text

from deeplab_lib.analysis import captions, diagram, pictures, plots, prose
from deeplab_lib.analysis import gallery as gallery_module
from deeplab_lib.analysis.gallery import Gallery
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.plots import Missing
from deeplab_lib.analysis.tables import changes, final_table, results_table
from deeplab_lib.common.parameters import check_parameters
from deeplab_lib.config import Config
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.plotting import run_figures
from deeplab_lib.plotting.style import HIGHEST, LOOKS
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.results import read_runs


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder, images=12, preset="smoke")
    return read_runs(folder)


@pytest.fixture
def old(tmp_path):
    write_runs(tmp_path, recipes=("ce", "ce_focal"), images=6, preset="smoke", legacy=True)
    return read_runs(tmp_path)


def texts(fig):
    """Every text of a figure."""
    return [t.get_text() for t in fig.findobj(lambda artist: hasattr(artist, "get_text"))]


def per_class(runs):
    return pd.DataFrame([run.final_class_val for run in runs], [run.stem for run in runs], CLASS_NAMES)


def curve_figures(runs):
    yield plots.learning_rates(runs)
    yield plots.curve_grid(runs, "train_loss", "val_loss", "loss")
    yield plots.curve_grid(runs, "train_mIoU", "val_mIoU", "mIoU (%)", share=True)
    for column in ("train_loss", "val_loss", "train_mIoU", "val_mIoU"):
        yield plots.curves(runs, column, column)
    yield plots.durations(runs)
    yield plots.accuracy_against_time(runs)
    yield pictures.heat_map(per_class(runs), {run.stem: run.label for run in runs}, "DeepLabV2_ce")


def luminance(color):
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    y = np.dot([0.2126, 0.7152, 0.0722], linear)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_every_recipe_has_a_look_of_its_own():
    assert list(LOOKS) == list(RECIPES)
    for position in range(3):
        assert len({look[position] for look in LOOKS.values()}) == len(LOOKS)


def test_colours_stay_apart_in_greyscale():
    grey = sorted(luminance(look.color) for look in LOOKS.values())
    assert min(np.diff(grey)) >= 6
    assert grey[-1] <= 80, "too pale on white paper"


def test_a_run_looks_the_same_in_every_figure(eight):
    def colors(fig):
        return {line.get_label(): line.get_color() for line in fig.axes[0].lines}

    first, second = colors(plots.curves(eight, "val_loss", "loss")), colors(plots.accuracy_against_time(eight[::-1]))
    for run in eight:
        assert first[run.label] == second[run.label] == LOOKS[run.recipe].color


def test_eight_runs_give_every_curve(eight):
    for fig in curve_figures(eight):
        assert fig.axes


def test_one_run_is_enough(eight):
    for fig in curve_figures(eight[:1]):
        assert fig.axes


def test_old_csvs_give_their_curves_and_name_what_they_lack(old):
    for fig in curve_figures(old):
        assert fig.axes
    with pytest.raises(Missing, match="val_ce"):
        plots.curves(old, "val_ce", "validation cross-entropy")
    with pytest.raises(Missing, match="npz"):
        pictures.choose_images({run.stem: run.arrays for run in old if run.arrays})


def test_an_unfinished_run_is_drawn_and_says_its_epoch(tmp_path):
    write_runs(tmp_path, recipes=("ce",), images=6, preset="smoke")
    write_runs(tmp_path, recipes=("ce_dice",), images=6, preset="smoke", unfinished_at=3)
    runs = read_runs(tmp_path)
    assert any("CE + Dice (epoch 3" in text for text in texts(plots.curves(runs, "val_mIoU", "mIoU (%)")))
    assert "CE + Dice at epoch 3" in prose.unfinished(runs, Numbers())


def test_changes_are_marked_where_they_acted(eight):
    run = next(run for run in eight if run.recipe == "ce_focal")
    assert [place for place, _ in changes(run)] == pytest.approx([5.6, 8.6])  # epochs 29 and 44 of 50, in 10
    fig = plots.curve_grid([run], "train_mIoU", "val_mIoU", "mIoU (%)")
    assert any("power 1" in text and "frozen" in text for text in texts(fig))


def test_changes_that_nearly_coincide_are_joined(eight):
    run = next(run for run in eight if run.recipe == "ce_lovasz_warmup")
    assert len(changes(run)) == 3
    places = changes(run, join=0.05)
    assert len(places) == 2 and "then power 1.2" in places[1][1]


def test_the_learning_rate_is_drawn_step_by_step_with_its_jumps(eight):
    """Power 2 from nine tenths on, for two fiftieths of the training: of ten epochs, no end lies in between."""
    run = next(run for run in eight if run.recipe == "ce_lovasz_warmup")
    epochs, values = plots.rates(run)
    drop, rise = np.searchsorted(epochs, [9.0, 9.4])
    assert list(epochs[[drop, rise]]) == [9.0, 9.4]
    assert values[drop - 1] > 5 * values[drop] and values[rise] > 5 * values[rise - 1]
    at_ends = np.searchsorted(epochs, run.table["epoch"][:-1]) - 1  # the last step of an epoch, or one just before
    assert values[at_ends] == pytest.approx(run.table["lr"][:-1].to_numpy(), rel=0.05)


@pytest.mark.parametrize("change", [{"power": 0.5}, {"steps_per_epoch": 90}])
def test_a_schedule_that_contradicts_the_recorded_rates_is_not_drawn(eight, change):
    run = replace(eight[0], record=eight[0].record | {"config": eight[0].config | change})
    epochs, values = plots.rates(run)
    assert list(epochs) == list(run.table["epoch"]) and list(values) == list(run.table["lr"])


def test_old_runs_show_their_rates_at_the_ends_of_epochs(old):
    assert list(plots.rates(old[0])[1]) == list(old[0].table["lr"])


@pytest.mark.parametrize("draw", [plots.learning_rates, lambda runs: plots.curves(runs, "val_loss", "loss", log=True)])
def test_a_change_is_marked_on_the_curve_of_a_log_axis(eight, draw):
    run = next(run for run in eight if run.recipe == "ce_focal")
    curve, marks = draw([run]).axes[0].lines[:2]
    places, heights = marks.get_data()
    assert list(places) == pytest.approx([5.6, 8.6])
    x, y = curve.get_data()
    assert np.log(heights) == pytest.approx(np.interp(places, x, np.log(y)))


def test_losses_are_read_off_a_log_axis_in_plain_numbers(eight):
    ax = plots.curves(eight, "val_ce", "validation cross-entropy", log=True).axes[0]
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "validation cross-entropy (log scale)"
    assert ax.yaxis.get_major_formatter()(0.5) == "0.5"


def test_epochs_are_counted_from_zero_in_every_figure(eight, tmp_path):
    """What an epoch left behind stands at its end; a change from epoch 29 of 50 on stands at 28."""
    config = Config(loss="ce_focal", preset="smoke", epochs=50, out_dir=str(tmp_path))
    ax = run_figures.schedule(config, steps_per_epoch=10).axes[0]
    first, second = (line.get_xdata()[0] for line in ax.lines[1:])
    assert (ax.lines[0].get_xdata()[0], first, second) == (0, 28, 43) and ax.get_xlim() == (0, 50)
    assert [text.get_text() for text in ax.texts] == ["1", "2", "1  power 1.2\n2  power 1, layer3 and layer4 frozen"]
    assert ax.get_xlabel() == plots.curves(eight, "val_ce", "loss").axes[0].get_xlabel() == "epochs trained"


def test_forest_and_ranking_say_what_they_were_given():
    table = pd.DataFrame({
        "name": ["A", "B"], "estimate": [2.0, -1.0], "low": [1.0, -3.0], "high": [3.0, 1.0],
        "color": ["#000000", "#888888"], "marker": ["o", "s"], "tie": ["a", "ab"],
    })  # fmt: skip
    fig = plots.forest(table, "difference (points)")
    assert "+2.00  [+1.00, +3.00]" in texts(fig) and "−1.00  [−3.00, +1.00]" in texts(fig)
    hollow = [line.get_markerfacecolor() for line in fig.axes[0].lines if line.get_marker() in ("o", "s")]
    assert hollow == ["#000000", "white"], "an interval that holds zero is hollow"
    bars = [line for line in plots.ranking(table, "mIoU (%)").axes[0].lines if line.get_linewidth() == 2.4]
    assert len(bars) == 1, "a tie takes two"
    with pytest.raises(Missing):
        plots.forest(table[:0], "difference")


def test_the_bar_of_a_tie_is_thin_past_who_is_not_in_it():
    table = pd.DataFrame({
        "name": ["A", "B", "C"], "estimate": [3.0, 2.0, 1.0], "low": np.nan, "high": np.nan,
        "color": "#000000", "marker": "o", "tie": ["a", "b", "a"],
    })  # fmt: skip
    thick, thin = plots.ranking(table, "mIoU (%)").axes[0].lines[-2:]
    assert list(thick.get_ydata()[[0, 1, 3, 4]]) == pytest.approx([-0.3, 0.3, 1.7, 2.3])
    assert list(thin.get_ydata()) == [0, 2]


def test_cost_figure_shows_trained_and_untrained_architectures():
    table = pd.DataFrame({
        "name": ["CE", "other"], "mIoU": [40.0, np.nan], "color": ["#000000", "0.4"], "marker": ["o", ">"],
        "gmacs": [374.7, 200.0], "latency_ms": [np.nan, np.nan],
    })  # fmt: skip
    fig = plots.accuracy_against_cost(table)
    assert [ax.get_xlabel() for ax in fig.axes] == ["multiply-adds per image (G)"]
    assert "other" in texts(fig)
    with pytest.raises(Missing):
        plots.accuracy_against_cost(table[["name", "mIoU", "color", "marker"]])


def test_classes_stand_by_frequency_and_no_run_hides_another(eight):
    share = pd.Series(np.arange(19.0)[::-1], CLASS_NAMES)  # bicycle is absent, motorcycle the rarest
    ax = plots.iou_against_frequency(per_class(eight), share, eight).axes[0]
    (names,) = ax.child_axes
    assert [label.get_text() for label in names.get_xticklabels()] == list(CLASS_NAMES[-2::-1])
    assert [label.get_text() for label in ax.get_xticklabels()][:2] == ["1", "2"]
    places = np.sort(np.concatenate([line.get_xdata() for line in ax.lines]))
    assert len(places) == 8 * 18 and min(np.diff(places)) > 0.05
    assert (np.round(places) == np.repeat(np.arange(18), 8)).all(), "marks stay in the column of their class"


def test_boundary_scores_stand_beside_their_differences_from_ce(eight):
    methods = [run.method for run in eight]
    table = plots.with_looks(pd.DataFrame({"estimate": 50.0, "low": 48.0, "high": 52.0}, methods), eight)
    differences = pd.DataFrame({"estimate": -1.5, "low": -2.0, "high": -1.0}, methods[:0:-1])
    left, right = plots.boundary(table, differences).axes
    assert [text.get_text() for text in left.texts] == 8 * ["50.0"]
    assert [text.get_text() for text in right.texts] == 7 * ["−1.50  [−2.00, −1.00]"]
    assert [text.get_position()[1] for text in right.texts] == [1, 2, 3, 4, 5, 6, 7], "each in its run's row"
    assert len(plots.boundary(table, differences[:0]).axes) == 1
    with pytest.raises(Missing):
        plots.boundary(table.assign(estimate=np.nan))


def test_heat_map_prints_differences_from_the_baseline():
    iou = pd.DataFrame([[50.0, np.nan], [47.5, np.nan]], ["base", "other"], ["road", "rider"])
    words = texts(pictures.heat_map(iou, {"base": "Base", "other": "Other"}, "base"))
    assert "50" in words and "−2.5" in words and "–" in words
    with pytest.raises(Missing):
        pictures.heat_map(iou[["rider"]], {"base": "Base", "other": "Other"})


@pytest.mark.parametrize("without", ["base", "other"])
def test_heat_map_leaves_out_differences_where_there_are_none(without):
    iou = pd.DataFrame({"road": [50.0, 47.5], "rider": [30.0, 29.0]}, ["base", "other"])
    iou.loc[without] = np.nan
    assert len(pictures.heat_map(iou, {"base": "Base", "other": "Other"}, "base").axes) == 1


def test_confusion_is_row_normalised():
    matrix = np.zeros((19, 19))
    matrix[0, :2] = 30, 10
    words = texts(pictures.confusion(matrix))
    assert "75" in words and "25" in words
    with pytest.raises(Missing):
        pictures.confusion(np.zeros((19, 19)))


def test_images_are_chosen_by_rule():
    """Four images of one class each row: three, two, one and no pixel of four right; only the third is disputed."""

    def run(disputed):
        confusion = np.zeros((4, 19, 19), dtype=np.int64)
        for image, right in enumerate((4, 3, 2, 0)):
            confusion[image, 0, 0], confusion[image, 0, 1] = right, 4 - right
        maps = np.zeros((4, 2, 2), dtype=np.uint8)
        maps[2] = disputed
        names = np.array(["a", "b", "c", "d"])
        return {"names": names, "confusion": confusion, "prediction_names": names, "predictions": maps}

    roles = pictures.choose_images({"one": run(0), "two": run(1)})
    assert roles["best"] == "a" and roles["worst"] == "d"
    assert {roles["median"], roles["most disputed"]} == {"b", "c"}
    assert pictures.dispute([np.zeros((2, 2)), np.array([[0, 1], [0, 0]])]) == 0.25


def test_an_image_is_scored_over_the_classes_labelled_in_it():
    """Half of the road is right; that some of it was taken for sky is its own error and no class of the image."""
    confusion = np.zeros((1, 19, 19))
    confusion[0, 0, [0, 10]] = 50
    assert pictures.image_scores(confusion) == pytest.approx([50])


def test_predictions_show_every_run_its_score_and_the_classes_in_sight(eight):
    arrays = {run.stem: run.arrays for run in eight}
    name = pictures.choose_images(arrays)["best"]
    predicted = {stem: pictures.prediction(one, name) for stem, one in arrays.items()}
    labels = np.full_like(predicted["DeepLabV2_ce"], 255)
    image = np.zeros((*labels.shape, 3), np.uint8)
    fig = pictures.predictions(image, labels, predicted, {run.stem: f"{run.label}\n50.0 %" for run in eight})
    assert {f"{run.label}\n50.0 %" for run in eight} <= set(texts(fig)) and set(CLASS_NAMES) <= set(texts(fig))
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 7


def test_error_maps_tell_right_wrong_and_void():
    picture = pictures.shades(np.array([[False, True, True]]), np.array([[1, 1, 255]]))
    assert [tuple(pixel) for pixel in picture[0]] == [pictures.RIGHT, pictures.WRONG, (0, 0, 0)]
    none, half, every, void = pictures.shades(np.array([[0, 0.5, 1, 1]]), np.array([[1, 1, 1, 255]]))[0].astype(int)
    assert none.mean() > half.mean() > every.mean() > void.mean() == 0, "in greyscale, too"


def test_gallery_names_what_it_cannot_show(eight, old):
    gallery = Gallery("toy city (synthetic)", Numbers(), {})
    gallery.say("", gallery.figure("lr", plots.learning_rates, eight))
    gallery.say("", gallery.figure("val-ce", plots.curves, old, "val_ce", "validation cross-entropy"))
    assert gallery.shown == ["fig-lr"] and "val_ce" in gallery.missing["val-ce"]


def test_a_paragraph_cites_what_is_shown_and_comes_before_it(eight, old, monkeypatch):
    told = []
    monkeypatch.setattr(gallery_module, "display", lambda output, **_: told.append(output.data))
    for show in ("figure", "table"):
        monkeypatch.setattr(gallery_module.report, show, lambda _, label, *rest, **more: told.append(label))
    gallery = Gallery("toy city (synthetic)", Numbers(), {})
    gallery.say(
        "Rates (@fig-lr, @tbl-classes) are first. Nothing of this is there (@fig-val-ce, @tbl-wins).",
        gallery.figure("lr", plots.learning_rates, eight),
        gallery.table("classes", final_table(eight)),
        gallery.figure("val-ce", plots.curves, old, "val_ce", "validation cross-entropy"),
        gallery.table("wins", final_table(eight)[:0]),
    )
    assert told[:3] == [
        "Rates (@fig-lr, @tbl-classes) are first. Nothing of this is there.", "fig-lr", "tbl-classes",
    ]  # fmt: skip
    assert len(told) == 4 and "is left out: no run has values of val_ce" in told[3]


def test_figures_of_many_runs_fit_on_a_page(eight):
    class_of_five = [replace(run, stem=f"{name}/{run.stem}", title=f"{run.title} ({name})") for name in "abcde"
                     for run in eight]  # fmt: skip
    for figure in curve_figures(class_of_five):
        assert figure.get_size_inches()[1] <= HIGHEST
    few, many = (plots.curve_grid(runs, "train_mIoU", "val_mIoU", "mIoU (%)") for runs in (eight, class_of_five[:15]))
    assert few.axes[0].get_subplotspec().get_gridspec().ncols == 2
    assert many.axes[0].get_subplotspec().get_gridspec().ncols == 3
    assert not any("power" in text for text in texts(many)), "beside each other there is no room for it"
    key = plots.curves(class_of_five[:15], "val_mIoU", "mIoU (%)")
    key.draw_without_rendering()
    legend = key.axes[0].get_legend().get_window_extent()
    assert legend.height <= key.bbox.height


def test_both_columns_of_curves_stand_side_by_side(eight):
    both = {"train_loss": "training loss", "val_loss": "validation loss"}
    figure = plots.curve_pair(eight, both, log=True)
    assert [ax.get_ylabel() for ax in figure.axes] == ["training loss (log scale)", "validation loss (log scale)"]
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(eight) + 1, "one legend for both, with the mark of a change"
    half = [replace(run, table=run.table.drop(columns="train_loss")) for run in eight]
    assert [ax.get_ylabel() for ax in plots.curve_pair(half, both).axes] == ["validation loss"]
    with pytest.raises(Missing, match="train_loss and val_loss"):
        plots.curve_pair([replace(run, table=run.table[["epoch"]]) for run in eight], both)


@pytest.mark.parametrize("name, channels", [("deeplabv2_mini", 16), ("deeplabv2_resnet101", 64)])
def test_the_network_is_drawn_with_its_own_shapes(name, channels):
    parts = diagram.parts(name, (128, 256))
    shapes = [parts[key].shape for key in ("stem", "layer1", "layer4", "sum", "output")]
    grid = (17, 33)  # every 8 pixels, from corner to corner
    assert shapes == [
        (channels, 33, 65), (4 * channels, 33, 65), (32 * channels, *grid), (19, *grid), (19, 128, 256),
    ]  # fmt: skip
    assert [part.does for key, part in parts.items() if key.startswith("branch")] == [
        "rate 6", "rate 12", "rate 18", "rate 24",
    ]  # fmt: skip
    assert "dilation 4" in parts["layer4"].does
    found = texts(diagram.network(name, (128, 256)))
    assert f"{32 * channels} × 17 × 33" in " ".join(found) and all(f"3 × 3, rate {rate}" in found for rate in (6, 24))


def test_another_network_than_deeplabv2_leaves_the_studys_in_the_picture():
    small = {"model": "deeplabv2_mini", "image_height": 128, "image_width": 256}
    assert diagram.drawn_network(small) == ("deeplabv2_mini", (128, 256))
    assert diagram.drawn_network(small | {"model": "lraspp_mobilenet_v3_large"}) == diagram.drawn_network({})
    assert diagram.drawn_network({}) == ("deeplabv2_resnet101", (512, 1024))


def test_gallery_registers_what_its_tables_print(eight):
    numbers = Numbers()
    Gallery("toy city (synthetic)", numbers, {run.stem: run.label for run in eight}).table(
        "classes", final_table(eight)
    )
    assert numbers["classes.DeepLabV2_ce.val_mIoU"] == pytest.approx(eight[0].final_val_mIoU)
    assert numbers.text("classes.DeepLabV2_ce.val_mIoU") == f"{eight[0].final_val_mIoU:.1f}"


def test_gallery_shows_no_table_without_a_value(eight):
    numbers = Numbers()
    Gallery("toy city (synthetic)", numbers, {}).table("classes", final_table(eight) * np.nan)
    assert len(numbers) == 0


def test_every_figure_and_table_has_a_caption():
    assert all(caption.endswith(".") for caption in captions.FIGURES.values())
    assert not any(table.caption.endswith(".") for table in captions.TABLES.values()), "the scope follows"


def test_a_misspelt_parameter_is_refused_by_name():
    notebook = {"In": ["# Parameters\nrunz = 'somewhere'\n", "x = 1"]}
    with pytest.raises(ValueError, match=r"runz.*did you mean 'runs'"):
        check_parameters(notebook, ["runs", "title"])
    check_parameters({"In": ["# Parameters\nruns = 'somewhere'\n"]}, ["runs"])


def test_prose_reads_every_run_and_registers_its_numbers(eight, old):
    numbers = Numbers()
    speak = (prose.schedules, prose.losses, prose.cross_entropy, prose.training_mious, prose.validation_mious)
    for say in (*speak, prose.durations):
        assert say(eight, numbers).endswith(".")
        assert "nan" not in say(eight, numbers)
    assert prose.cross_entropy(old, Numbers()) == ""
    low, high = numbers["reading.val_mIoU.low"], numbers["reading.val_mIoU.high"]
    assert low == min(run.final_val_mIoU for run in eight) and high == max(run.final_val_mIoU for run in eight)


def test_a_final_value_measured_otherwise_is_not_held_against_the_curve(old):
    """The last of it lies far above every epoch's: no epoch of the curve comes near, and none is the best of both."""
    for run in old:
        run.table["val_mIoU_final"] = np.minimum(2 * run.table["val_mIoU"], 100)
    numbers = Numbers()
    text = prose.validation_mious(old, numbers)
    assert numbers["reading.early.high"] <= old[0].epochs and "best epoch" not in text
    assert results_table(old)["best_val_mIoU"].isna().all()


def test_final_values_without_a_curve_are_told_alone(old):
    for run in old:
        run.table["val_mIoU_final"], run.table["val_mIoU"] = 50.0, np.nan
    assert prose.validation_mious(old, Numbers()) == "Validation mIoU (@fig-mious) ends at 50.0 % (all runs)."
