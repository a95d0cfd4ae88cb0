"""What the report says of the runs in words: abstract, conclusions, limitations, what was run and what is missing."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.synthetic_runs import study_in_memory, write_runs

from deeplab_lib.analysis import (
    conclusions,
    discussion,
    findings,
    pictures,
    plots,
    prose,
    sentences,
    setup_text,
    tables,
)
from deeplab_lib.analysis.captions import against_ce, named
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.findings import Findings
from deeplab_lib.analysis.gallery import Gallery, drawn_runs
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.tables import final_table
from deeplab_lib.analysis.verdicts import EQUIVALENT, INCONCLUSIVE
from deeplab_lib.common.text import count
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.grouping import studies
from deeplab_lib.study.results import read_folder, read_runs

NAMES = dict(zip("ABC", "ABC", strict=True))


class Report:
    """Everything that the texts are written from, for the runs of one folder."""

    def __init__(self, folder):
        self.study = studies(read_runs(folder))[0]
        self.evidence = Evidence.of(self.study, resamples=300)
        self.findings = Findings.of(self.study, self.evidence)
        self.numbers = Numbers()

    def text(self, say):
        return say(self.findings, self.numbers)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Eight runs of which one is far better and one far worse than the rest."""
    folder = tmp_path_factory.mktemp("planted")
    write_runs(folder, images=40, preset="smoke", effects={"ce_focal": 8.0, "ce_dice": -8.0}, noise=0.1)
    return Report(folder)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    write_runs(folder, images=8, preset="smoke", legacy=True)
    return Report(folder)


def test_kind_9_the_number_of_resamples_is_stated(planted, old):
    assert planted.text(sentences.resamples) == "Every interval rests on 300 resamples."
    assert old.text(sentences.resamples) == "", "without results for single images there are none"


def test_a_planted_winner_and_loser_are_named(planted):
    for say in (conclusions.abstract, conclusions.conclusions):
        text = planted.text(say)
        assert re.search(r"CE \+ Dice \(−\d.*?\) is significantly worse", text)
        assert re.search(
            r"CE \+ Focal \(\+\d.*?\) is significantly better.* also used another learning-rate schedule", text
        )
    text = planted.text(conclusions.conclusions)
    assert "CE + Focal has the highest final mIoU" in text
    assert "It differs significantly from all others" in text
    assert "CE + Dice has the lowest value and ranks last at the simultaneous 95 % level" in text
    top = planted.numbers["reading.ranking.DeepLabV2_ce05_f05_warnup_lr_0.0003"]
    assert f"{top:.2f} %" in text


def test_a_leader_differs_from_those_that_it_is_not_tied_with(planted):
    """Of three runs the first and the last are tied, though the second differs from the first."""
    table = pd.DataFrame(
        {"value": [52, 51, 50], "low": 49, "high": 53, "best": [1, 2, 1], "worst": [2, 3, 3], "ties": ["a", "b", "ab"]},
        index=["A", "B", "C"],
    )
    text = sentences.ranking(replace(planted.findings, ranks=table, titles=NAMES), Numbers())
    assert text.startswith("A has the highest final mIoU, 52.00 %. It does not differ significantly from C.")


def test_a_difference_across_schedules_is_called_confounded(planted):
    text = sentences.confounding(planted.findings, planted.numbers)
    confounded = re.search(r"Comparisons with (.*) are \*confounded\*", text)[1]
    assert "CE + Focal" in confounded and "CE + Dice" not in confounded.replace("CE + Lovász + Dice", "")


def test_one_run_is_held_against_nothing(tmp_path):
    write_runs(tmp_path, recipes=("ce",), images=8, preset="smoke")
    write_runs(tmp_path, recipes=("ce_dice",), images=8, preset="smoke", unfinished_at=3)
    abstract = Report(tmp_path).text(conclusions.abstract)
    assert abstract.startswith("CE reached") and "This report covers one finished run of DeepLabV2" in abstract
    assert "difference" not in abstract


def test_schedules_are_counted_for_one_run_and_for_many(planted):
    runs = planted.study.runs
    assert prose.schedules(runs[:1], Numbers()) == ""
    assert prose.schedules(runs[:2], Numbers()) == (
        "The two runs share one schedule and differ in nothing but the loss (@fig-lr)."
    )
    mixed = prose.schedules([*runs[:2], runs[5]], Numbers())
    assert mixed.startswith(
        "The three runs follow two different schedules (@fig-lr). CE and CE + Tversky share one, and one run has a "
        "schedule of its own. Only within"
    )


def test_an_unfinished_run_follows_the_schedule_that_it_was_started_with(tmp_path):
    write_runs(tmp_path, recipes=("ce",), images=8, preset="smoke")
    write_runs(tmp_path, recipes=("ce_dice",), images=8, preset="smoke", unfinished_at=3)
    assert "share one schedule" in prose.schedules(read_runs(tmp_path), Numbers())


@pytest.mark.parametrize("weights", [{"weight_ce": [0.7] * 9 + [0.5]}, {}], ids=["recorded", "old"])
def test_a_validation_loss_of_other_weights_is_no_sign_of_overfitting(old, weights):
    """Run 5 changes its weights after nine tenths: the validation loss may rise there, for it is another function."""
    run = next(run for run in old.study.runs if run.recipe == "ce_lovasz_warmup")
    val = [*np.linspace(1.1, 1, 9), 1.5]
    train = np.linspace(2, 1, 10) if weights else [*np.linspace(2, 1.1, 9), 1.6]  # of a log, both curves have to jump
    changed = replace(run, table=run.table.assign(train_loss=train, val_loss=val, **weights))
    assert "No validation loss ended more than 5 %" in prose.losses([changed], Numbers())
    kept = replace(changed, table=changed.table.assign(weight_ce=0.7))
    assert "indicates overfitting" in prose.losses([kept], Numbers())


def test_only_configurations_with_several_seeds_are_said_to_have_them(tmp_path):
    write_runs(tmp_path, recipes=("ce",), seeds=(0, 1, 2), images=8, preset="smoke")
    write_runs(tmp_path, recipes=("ce_dice",), images=8, preset="smoke")
    report = Report(tmp_path)
    text = sentences.seeds(report.findings, Numbers())
    assert text.startswith("CE was trained with 3 seeds, every other configuration with one.")
    assert "One seed of CE + Dice" in conclusions.limitations(report.findings)
    text = report.text(conclusions.conclusions)
    assert re.search(r"(?i)\w+ seeds a configuration \(without which b", text), (
        "the variance between CE's seeds says how many"
    )
    assert "one schedule for all" not in text, "they share one"


@pytest.fixture(scope="module")
def controlled(tmp_path_factory):
    """CE, one loss on its schedule, one with another schedule and its control; both losses far better."""
    folder = tmp_path_factory.mktemp("controlled")
    far = {"images": 40, "preset": "smoke", "noise": 0.1}
    write_runs(folder, recipes=("ce", "ce_dice", "ce_focal"), effects={"ce_dice": 9, "ce_focal": 9}, **far)
    write_runs(folder, recipes=("ce_focal",), schedule="ce", effects={"ce_focal": 9}, **far)
    return Report(folder)


def test_the_finding_comes_first_and_is_that_at_equal_schedule(controlled, planted, old):
    """Losses that are better at equal schedule, the control among them; else the largest gain that is excluded."""
    text = controlled.text(conclusions.abstract)
    first = text.partition(" plain cross-entropy in mIoU.")[0]
    assert first.startswith("At equal schedule, CE + Dice (+") and " and CE + Focal, schedule of CE (+" in first
    assert first.endswith("beat") and text.index("At equal schedule") < text.index("loss configurations")
    assert planted.text(conclusions.abstract).startswith("At equal schedule, none of four losses ")
    assert not sentences.headline(old.findings, Numbers()), "without intervals nothing is decided"
    assert "trained with one seed, so variation between trainings is not covered" in text


def test_what_is_excluded_follows_the_largest_upper_bound(planted):
    versus = planted.findings.versus.copy()
    equal = versus.index.isin(planted.findings.equal)
    versus.loc[equal, ["low", "high", "verdict"]] = [-1.0, 1.5, EQUIVALENT]
    small = replace(planted.findings, versus=versus)
    assert "beats plain cross-entropy by more than 2 points" in sentences.headline(small, Numbers())
    versus.loc[versus.index[0], ["high", "verdict"]] = [3.25, INCONCLUSIVE]
    text = sentences.headline(small, Numbers())
    assert "significantly better than plain cross-entropy" in text and "Gains of up to 3.2 points cannot" in text
    assert sentences.headline(replace(small, controlled=True), Numbers()).startswith("At equal schedule, no loss is")


def test_the_outlook_says_how_many_seeds_decide_a_claim_and_how_many_all(planted):
    def open_at(verdict, seeds):
        left = replace(verdict.deciding[0], verdict=INCONCLUSIVE, seeds=seeds)
        return replace(verdict, deciding=(left,), verdict=INCONCLUSIVE)

    few, many = map(open_at, planted.findings.verdicts, (4, 20))
    text = conclusions.outlook(replace(planted.findings, verdicts=(few, many)))
    assert "Four seeds a configuration (without which a and b cannot be decided; up to 20 decide all of them)" in text
    images_too = replace(many.deciding[0], seeds=0)
    many = replace(many, deciding=(*many.deciding, images_too))
    text = conclusions.outlook(replace(planted.findings, verdicts=(few, many)))
    assert "up to 20 decide what seeds alone can decide)" in text


def test_the_control_is_all_losses_on_one_schedule(tmp_path):
    write_runs(tmp_path, recipes=("ce", "ce_focal", "ce_lovasz_dice"), images=8, preset="smoke")
    for key, controlled in (("ce_focal", False), ("ce_lovasz_dice", True)):
        write_runs(tmp_path, recipes=(key,), images=8, preset="smoke", schedule="ce")
        report = Report(tmp_path)
        assert ("A control with one schedule" not in report.text(conclusions.conclusions)) == controlled
        said = sentences.confounding(report.findings, Numbers())
        assert ("every loss was trained on the schedule" in said) == controlled


def test_absent_classes_and_no_relation_to_frequency_are_told_in_grammar(planted):
    iou = final_table(planted.study.runs)[list(CLASS_NAMES)]
    iou["train"] = float("nan")
    text = prose.classes(iou, planted.findings, None, Numbers())
    assert "train occurs neither in labels nor in predictions and stays out of every mean." in text
    share = pd.Series(np.arange(1.0, 20), CLASS_NAMES)
    falling = pd.DataFrame([np.arange(19.0, 0, -1)], ["DeepLabV2_ce"], CLASS_NAMES)
    assert "IoU does not follow frequency (@fig-frequency): over 19 classes" in prose.frequency(
        falling, share, Numbers()
    )


def test_captions_speak_of_the_panels_that_are_drawn_and_of_intervals_that_there_are():
    assert (
        against_ce("classes", has_baseline=False, has_intervals=True)
        == against_ce("boundary", has_baseline=False, has_intervals=False)
        == ""
    )
    assert (
        against_ce("classes", has_baseline=True, has_intervals=False)
        == " (top) and its difference from the CE run (bottom)"
    )
    assert "Bold: the simultaneous" in against_ce("classes", has_baseline=True, has_intervals=True)
    assert against_ce("boundary", has_baseline=False, has_intervals=True) == ", with simultaneous 95 % intervals"
    assert (
        "from the CE run, with" in (whole := against_ce("boundary", has_baseline=True, has_intervals=True))
        and "Hollow" in whole
    )


def test_every_claim_is_counted_once(planted):
    text = conclusions.count_verdicts(planted.findings)
    counted = [
        [*map(count, range(10))].index(word)
        for word in re.findall(
            r"(\w+) (?:is|are|shows?) (?:supported|contradicted|no difference that matters|inconclusive)", text
        )
    ]
    assert sum(counted) == 9
    decided = [verdict for verdict in planted.findings.verdicts if verdict.verdict != INCONCLUSIVE]
    assert decided and all(re.search(rf"[(;] ?{verdict.claim.key}( †)?[;)]", text) for verdict in decided)
    lines = conclusions.decided(planted.findings).splitlines()
    assert len(lines) == len(decided)
    for verdict, line in zip(decided, lines, strict=True):
        assert line.startswith(f"- ({verdict.claim.key}) {verdict.claim.text} *{verdict.verdict.capitalize()}.*")
    assert list(conclusions.verdict_table(planted.findings.verdicts).index) == [f"({key})" for key in "abcdefghi"]


def test_every_finding_is_told_with_its_numbers(planted):
    text = conclusions.verdict_details(planted.findings.verdicts, planted.numbers)
    assert text.count("Rule:") == 9
    assert "{" not in text and "nan" not in text
    for key, entry in planted.numbers.items():
        if key.startswith("claims."):
            assert entry["text"] in text


def test_without_images_nothing_is_judged(old):
    text = sentences.differences(old.findings, old.numbers)
    assert "no intervals" in text
    assert "no intervals" in conclusions.limitations(old.findings)
    assert "the order of the runs proves nothing" in old.text(conclusions.conclusions)
    abstract = old.text(conclusions.abstract)
    assert "No difference can be judged" in abstract
    assert "significantly" not in abstract and "At equal schedule" not in abstract
    assert "no results for single images" in sentences.seeds(old.findings, Numbers())


def test_without_intervals_no_class_counts_as_decided_or_undecided(old):
    iou = final_table(old.study.runs)[list(CLASS_NAMES)]
    decided = sentences.decided_classes(old.evidence.class_differences(), iou)
    assert decided is None
    text = prose.classes(iou, old.findings, decided, Numbers())
    assert re.search(r"\d+ are gains, and \d+ are losses; none has an interval\.$", text)


def test_boundary_scores_are_not_compared_by_overlap(planted):
    table, differences = planted.evidence.levels("boundary_f"), planted.evidence.from_baseline("boundary_f")
    text = sentences.boundaries(planted.findings, table, differences, Numbers())
    assert "the interval of a difference decides whether two runs differ" in text
    assert "plain cross-entropy" in text
    unknown = differences.assign(low=float("nan"))
    assert "plain cross-entropy" not in sentences.boundaries(planted.findings, table, unknown, Numbers())


def test_one_boundary_score_spans_no_range(planted):
    one = planted.evidence.levels("boundary_f")[:1]
    assert sentences.boundaries(planted.findings, one, planted.findings.versus, Numbers()) == ""


def test_without_a_class_of_ce_nothing_is_said_against_it(planted):
    iou = final_table(planted.study.runs)[list(CLASS_NAMES)]
    iou.loc["DeepLabV2_ce"] = float("nan")
    text = prose.classes(iou, planted.findings, None, Numbers())
    assert "differ most on" in text and "differences from CE" not in text


def test_the_schedule_of_an_old_csv_is_what_its_rates_show(old, planted):
    changes = tables.configurations(old.study.runs)["changes"]
    assert set(changes.iloc[[0, 1, 2, 3, 7]]) == {"–"}
    assert list(changes.iloc[4:7]) == [
        "after 6: power 1; after 9: power 1.2",  # power 2 begins and ends inside the last of the ten epochs
        "after 5: power 1.2; after 8: power 1",
        "after 6: power 1.1",
    ]
    assert "as the logged rates show them" in setup_text.configurations_note(old.study.runs)
    assert setup_text.configurations_note(planted.study.runs) == ""


def test_limitations_follow_from_the_records(planted, tmp_path):
    text = conclusions.limitations(planted.findings)
    assert "One seed" in text and "synthetic" in text and "CPU" in text and "random weights" in text
    write_runs(tmp_path, recipes=("ce", "ce_dice"), seeds=(0, 1), images=8, preset="smoke", dataset="streets")
    real = Report(tmp_path)
    text = conclusions.limitations(real.findings)
    assert "One seed" not in text and "synthetic" not in text
    assert "2 seeds" in sentences.seeds(real.findings, Numbers())


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """CE and CE + Dice, two seeds each, of which none is 0."""
    folder = tmp_path_factory.mktemp("seeded")
    write_runs(folder, recipes=("ce", "ce_dice"), seeds=(1, 2), images=30, preset="smoke", effects={"ce": 3})
    return Report(folder)


def test_what_is_averaged_over_seeds_bears_no_seeds_name(seeded):
    assert sentences.ranking(seeded.findings, Numbers()).startswith("CE has the highest final mIoU")
    assert list(plots.with_looks(seeded.findings.ranks, drawn_runs(seeded.study))["name"]) == ["CE", "CE + Dice"]


def test_classes_are_averaged_over_seeds(seeded):
    runs = [run for run in seeded.study.runs if run.recipe == "ce"]
    expected = sum(run.final_class_val for run in runs) / 2
    assert seeded.evidence.class_values(["DeepLabV2_ce"]).loc["DeepLabV2_ce"].to_numpy() == pytest.approx(expected)


def test_kind_4_a_table_of_single_runs_says_so_where_there_are_several_seeds(seeded, planted):
    assert "Means" in sentences.over_seeds(seeded.findings)
    assert sentences.over_seeds(planted.findings) == ""


def test_kind_4_a_table_of_several_seeds_holds_means_and_deviation(seeded):
    """Table and ranking show one number: the mean over seeds, with its deviation and how many there are."""
    table = tables.results_table(seeded.study.runs)
    values = [run.final_val_mIoU for run in seeded.study.runs if run.recipe == "ce"]
    row = table.loc["DeepLabV2_ce"]
    assert (row.val_mIoU, row.sd, row.seeds) == pytest.approx((np.mean(values), np.std(values, ddof=1), 2))
    assert seeded.findings.ranks.value["DeepLabV2_ce"] == pytest.approx(row.val_mIoU)
    assert final_table(seeded.study.runs).val_mIoU["DeepLabV2_ce"] == pytest.approx(row.val_mIoU)


def test_kind_4_what_several_seeds_say_is_said_of_the_losses(seeded, planted):
    assert set(seeded.findings.versus.speaks_of) == {"the losses"}
    assert set(planted.findings.versus.speaks_of) == {"these networks"}
    text = sentences.seeds(seeded.findings, Numbers())
    assert re.search(r"enters\s+every interval", text) and "not known" not in text
    details = conclusions.verdict_table(seeded.findings.verdicts)
    assert "these networks" not in set(details["speaks of"])


def from_scratch(runs):
    return conclusions.from_scratch(*findings.starts(runs))


def test_kind_4_origins_that_differ_are_distinguished(planted):
    first, *others = planted.study.runs
    pretrained = replace(first, record=first.record | {"weights": {"source": "ImageNet"}})
    text = from_scratch([pretrained, *others])
    assert text.startswith(f"All runs but {first.label} started from random weights.")
    assert from_scratch([pretrained]) == ""
    assert from_scratch(others).startswith("All runs started")


@pytest.mark.parametrize(
    ("cores", "words"),
    [(0.1, "measured alone."), (1.4, "while other programs kept up to 1.4 cores busy"), (np.nan, "is not recorded")],
)
def test_kind_4_a_latency_says_whether_it_was_taken_alone(cores, words):
    table = pd.DataFrame({"latency_ms": [11.0], "device": ["CPU"], "other_cores": [cores]})
    assert words in setup_text.latency_note(table)


def test_kind_4_three_images_have_no_intervals_and_the_reason_is_not_a_missing_file(tmp_path):
    write_runs(tmp_path, recipes=("ce", "ce_dice"), images=3, preset="smoke")
    report = Report(tmp_path)
    assert report.evidence.no_intervals == "there are 3 validation images, and intervals take 5 at least"
    for say in (conclusions.abstract, conclusions.conclusions):
        assert "there are 3 validation images" in report.text(say)
    assert "no results for single images" not in report.text(conclusions.conclusions)
    assert "3 validation images" in sentences.seeds(report.findings, Numbers())
    assert "3 validation images" in conclusions.limitations(report.findings)


def test_kind_4_runs_that_end_alike_share_the_first_place(planted):
    table = pd.DataFrame(
        {"value": [50.0, 50.0, 40.0], "low": 1.0, "high": 2.0, "best": 1, "worst": 3, "ties": "a"}, list("ABC")
    )
    three = replace(planted.findings, ranks=table, titles=NAMES)
    assert sentences.ranking(three, Numbers()).startswith("A and B share the highest final mIoU, 50.00 %")
    text = sentences.ranking(replace(three, ranks=table[:2]), Numbers())
    assert text == "All two runs end at exactly the same mIoU, 50.00 %."


def test_scope_says_what_it_is(planted, old):
    assert findings.scope(planted.study).startswith("synthetic toy city, smoke scale, CPU")
    assert "not recorded" in findings.scope(old.study)
    assert "did not use those images" in setup_text.data(planted.study.runs, Numbers())


def test_runs_that_all_depart_alike_are_ranked_and_say_so(tmp_path):
    write_runs(tmp_path, recipes=("ce", "ce_dice"), suffix="batch4", images=8, preset="smoke")
    report = Report(tmp_path)
    assert len(report.findings.ranks) == 2 and len(report.findings.versus) == 1
    assert findings.scope(report.study).endswith("10 epochs, all with batch4")


def test_only_the_small_networks_are_called_the_same_built_shallow(planted):
    run = planted.study.runs[0]
    assert "built shallow and narrow" in setup_text.model([run], Numbers())
    other = replace(run, record=run.record | {"config": run.config | {"model": "lraspp"}})
    assert "shallow" not in setup_text.model([other], Numbers())


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("scene-most-disputed", "The most disputed image"),
        ("loss-grid", "Training and validation loss of each run"),
        ("predictions", "predictions"),
    ],
)
def test_a_figure_left_out_is_named_readably(label, words):
    assert named(label) == words


def test_what_is_missing_is_listed(old, tmp_path):
    gallery = Gallery("", Numbers(), {})
    gallery.leave_out("val-ce", "no run has values of val_ce")
    text = setup_text.missing(old.study, [], gallery)
    assert "“Cross-entropy of all runs on the validation images”: no run has values of val_ce" in text
    assert text.count("no JSON") == 1 and "All runs: the files lack" in text
    write_runs(tmp_path, recipes=("ce",), images=8, preset="smoke")
    text = setup_text.missing(studies(read_runs(tmp_path))[0], [], Gallery("", Numbers(), {}))
    assert "Not among the runs that are compared: CE + Tversky" in text


def test_figures_draw_one_seed_of_each_recipe(tmp_path):
    write_runs(tmp_path, recipes=("ce", "ce_dice"), seeds=(0, 1), images=8, preset="smoke")
    write_runs(tmp_path, recipes=("ce_dice",), images=8, preset="smoke", schedule="ce_focal")
    assert [run.label for run in drawn_runs(studies(read_runs(tmp_path))[0])] == ["CE", "CE + Dice"]


def test_the_table_of_recipes_gives_all_eight():
    table = tables.recipes_table()
    assert list(table["run"]) == [recipe.title for recipe in RECIPES.values()]
    assert table["weights"][7] == "0.5/0.25/0.25" and "power 1.1" in table["other settings"][7]
    assert "from epoch 46: power 2, weights 0.5/0.5, layer3 and layer4 frozen" in table["other settings"][5]


def test_origin_splits_into_what_is_shared_and_what_differs(planted):
    shared, different = tables.provenance(planted.study.runs)
    said = shared["all runs"]
    assert "preset smoke" in said["configuration"].split("; ") and "device" in said.index
    assert not any(part.startswith("lr ") or part.endswith((" ", "–")) for part in said["configuration"].split("; "))
    assert list(different.index) == list(planted.evidence.titles.values())


# --- many runs in few words, and what they mean -----------------------------------------------------------------------


def test_up_to_three_runs_are_named_and_of_more_it_is_said_how_many():
    assert sentences.some("ABC") == "A, B and C"
    assert sentences.some("ABCD", whole=7) == "four runs" and sentences.some("ABCD", whole=4) == "all four runs"


def test_more_runs_than_are_named_stand_with_the_lowest_and_the_highest_estimate():
    table = pd.DataFrame({"estimate": [1.0, -2.0, 3.0, 0.5], "verdict": INCONCLUSIVE}, list("ABCD"))
    (phrase,) = sentences.sorted_out(table, sentences.AGAINST_CE, "run {}".format, span=True)
    assert phrase == ("for all four runs, from run B to run C, the comparison with plain cross-entropy is inconclusive")
    (phrase,) = sentences.sorted_out(table[:2], sentences.AGAINST_CE, str, span=True)
    assert phrase == "for A and B the comparison with plain cross-entropy is inconclusive"


def test_what_the_others_gain_at_most_is_said_beside_those_that_are_better(controlled):
    versus = controlled.findings.versus.copy()
    (control,) = controlled.findings.controls
    versus.loc[control, ["estimate", "low", "high", "verdict"]] = [0.5, -0.4, 1.4, EQUIVALENT]
    text = sentences.headline(replace(controlled.findings, versus=versus), Numbers())
    assert text.endswith(" beats plain cross-entropy in mIoU. No other loss does so by more than 2 points.")
    assert " run does so" in sentences.headline(replace(controlled.findings, versus=versus, people=2), Numbers())


def test_neighbours_that_differ_are_counted():
    table = pd.DataFrame({"low": [-1.0, 0.5, -1.0], "high": [1.0, 2.0, 1.0]})
    assert sentences.neighbours(table).startswith("Of three pairs of neighbours in the ranking, one differs")
    assert sentences.neighbours(table[:1]).startswith("No run differs significantly from the next one")
    assert sentences.neighbours(table[:0]) == sentences.neighbours(table * np.nan) == ""


def test_why_several_seeds_give_wider_intervals_is_said_with_the_share_of_the_seeds(seeded, planted):
    rows = pd.DataFrame({"image_variance": [1.0, 1.0, 4.0], "seed_variance": [3.0, 1.0, 4.0]})
    assert findings.seed_share(rows) == 0.5
    text = sentences.seeds(seeded.findings, Numbers())
    assert re.search(r"the variance of a difference from CE, \d+ % comes from the seeds", text)
    assert "Its intervals are narrower and decide more" in text and "What narrows intervals is more seeds" in text
    assert "become wider at first" in sentences.seeds(planted.findings, Numbers())
    assert not np.isfinite(planted.findings.seed_share), "one seed shows no variance between seeds"


def test_the_discussion_says_what_the_comparison_shows(planted, old, controlled):
    text = planted.text(discussion.discussion)
    assert "CE + Dice differs from plain cross-entropy by more than the choice of images explains" in text
    assert "One training of each" in text and "a control that trains their losses on the schedule" in text
    assert "No difference between these runs can be judged" in old.text(discussion.discussion)
    text = controlled.text(discussion.discussion)
    assert re.search(r"CE \+ Focal \+[\d.]+ on its own schedule, \+[\d.]+ on that of CE", text)
    assert "The difference of CE + Focal is significant on both schedules" in text


def test_an_open_comparison_is_not_read_as_no_difference(planted):
    versus = planted.findings.versus.copy()
    versus[["estimate", "low", "high", "verdict"]] = [0.4, -3.0, 3.8, INCONCLUSIVE]
    text = discussion.meaning(replace(planted.findings, versus=versus), Numbers())
    assert "all four comparisons with plain cross-entropy are open. An interval reaches up to 3.4 points" in text
    assert "no evidence that two losses are alike" in text
    assert "All four estimates lie above zero." in text, "they share one CE run"
    versus[["low", "high", "verdict"]] = [-1.0, 1.8, EQUIVALENT]
    text = discussion.meaning(replace(planted.findings, versus=versus), Numbers())
    assert "All four runs are close enough to plain cross-entropy" in text and "open" not in text


def test_a_significant_gain_that_the_schedule_takes_with_it_is_no_gain_of_the_loss(controlled):
    versus = controlled.findings.versus.copy()
    (control,) = controlled.findings.controls
    versus.loc[control, "verdict"] = INCONCLUSIVE
    text = discussion.loss_or_schedule(replace(controlled.findings, versus=versus), Numbers())
    assert "What is significant for CE + Focal is not on the schedule of CE" in text


def test_one_run_leaves_nothing_to_discuss(tmp_path):
    write_runs(tmp_path, recipes=("ce",), images=8, preset="smoke")
    assert Report(tmp_path).text(discussion.discussion) == "A single run is no comparison; there is nothing to discuss."


def test_a_class_counts_configurations_and_runs_apart(tmp_path):
    for place, person in enumerate(("anna", "ben")):
        write_runs(tmp_path / person, recipes=("ce", "ce_dice"), images=8, preset="smoke", random_state=place)
    study = studies(read_folder(tmp_path)[0])[0]
    found = Findings.of(study, Evidence.of(study, resamples=100))
    assert (found.people, found.configurations, len(found.seeds)) == (2, 2, 4)
    assert "under two loss configurations that" in (text := conclusions.basis(found))
    assert ", in 4 runs of two people (" in text
    assert "runs" not in conclusions.basis(replace(found, people=1))


# --- what the eye would miss -----------------------------------------------------------------------------------------


def test_gains_and_losses_by_class_are_distinguished():
    """Where all that is decided are losses, no gain is credited with it, and the schedule behind it is named."""
    study = study_in_memory(np.random.default_rng(3), images=80, effects={"ce_focal": -12})
    judged = Evidence.of(study, 200)
    iou = judged.class_values([method.name for method in judged.recipes])
    decided = sentences.decided_classes(judged.class_differences(), iou)
    text = prose.classes(iou, Findings.of(study, judged), decided, Numbers())
    losses = re.search(r"losses, (\d+) of them significant( \(all in runs on another schedule\))?", text)
    lower = decided & (iou < iou.loc[judged.baseline.name])
    assert int(losses[1]) == lower.sum(axis=None) == decided.sum(axis=None) > 0 and losses[2]
    assert "gains, none of them significant, and" in text


def test_a_side_without_differences_and_a_single_one_are_said_in_good_english(planted):
    base = planted.evidence.baseline
    others = pd.DataFrame({"road": [-3.0], "sky": [2.0]}, index=[planted.evidence.same_schedule[1].name])
    decided = others < 0
    sides = lambda table, found: prose._sides(table, found, planted.findings, Numbers())  # noqa: E731
    assert base and sides(others, decided) == (
        "1 is a gain, none of them significant, and 1 is a loss, 1 of them significant."
    )
    assert sides(others[["road"]], decided[["road"]]) == "0 are gains, and 1 is a loss, 1 of them significant."


@pytest.mark.parametrize("effects, relation", [
    ({}, "which does not differ significantly from"), ({"ce_dice": -12.0}, "significantly above"),
])  # fmt: skip
def test_of_two_runs_one_differs_from_the_other_or_not(tmp_path, effects, relation):
    write_runs(tmp_path, recipes=("ce", "ce_dice"), images=40, preset="smoke", effects=effects, noise=0.1)
    report = Report(tmp_path)
    first, second = report.findings.named(report.findings.ranks.index)
    said = rf"{re.escape(first)} has the highest final mIoU, [\d.]+ %, {relation} {re.escape(second)}\."
    assert re.search(said, report.text(conclusions.conclusions))
    for say in (conclusions.abstract, conclusions.conclusions):
        text = report.text(say)
        assert "CE + Dice does not beat plain cross-entropy by more than 2 points" in text
        assert ("is significantly worse" in text) == bool(effects)
        assert "two runs" not in text and "one schedule for all" not in text
        assert "udged on two of the eight configurations, " in text
    assert "Only two of the eight configurations" in conclusions.limitations(report.findings)
    assert "varies together" not in conclusions.limitations(report.findings)


def test_one_run_is_told_with_its_value_and_nothing_is_compared(tmp_path):
    write_runs(tmp_path, recipes=("ce_tversky",), images=8, preset="smoke")
    report = Report(tmp_path)
    for say in (conclusions.abstract, conclusions.conclusions):
        text = report.text(say)
        alone = r"CE \+ Tversky reached \d\d\.\d\d % mIoU; there is no other run of the eight to compare it with\."
        assert re.search(alone, text)
        assert "significantly" not in text and "the study's" not in text
    assert len(pictures.choose_images({run.stem: run.arrays for run in report.study.runs})) == 3


def test_without_a_ce_run_that_is_said_and_the_schedules_are_still_in_doubt(tmp_path):
    write_runs(tmp_path, recipes=("ce_tversky", "ce_lovasz_dice"), images=40, preset="smoke")
    report = Report(tmp_path)
    text = report.text(conclusions.conclusions)
    assert "No CE run is finished" in text and "Only runs that share a schedule can be compared" in text
    assert (
        re.search(r"In order of priority, .*\n\n1\. A run of plain cross-entropy", text) and "schedule ce" not in text
    )
    assert "varies together with the loss." in conclusions.limitations(report.findings)


def test_curves_too_short_to_judge_ask_for_more_epochs(tmp_path):
    write_runs(tmp_path, images=20, preset="smoke", epochs=6)
    text = Report(tmp_path).text(conclusions.conclusions)
    assert re.search(r"Nine epochs or more \(without which (c, )?d and e cannot be decided\)", text)
    assert "Two seeds a configuration (without which" in text


def test_an_order_that_is_that_of_the_rates_is_said_to_be(tmp_path):
    slow = {key: -9.0 for key, recipe in RECIPES.items() if recipe.lr > RECIPES["ce"].lr}
    fast = {key: 30_000 * recipe.lr for key, recipe in RECIPES.items() if recipe.lr > RECIPES["ce"].lr}
    for name, effects in (("against", slow), ("along", fast)):
        write_runs(tmp_path / name, images=12, preset="smoke", effects=effects, noise=0.1)
    report = Report(tmp_path / "against")
    assert sentences.rate(report.findings, Numbers()) == "", "the lowest rate leads"
    assert "also used another learning-rate schedule" in report.text(conclusions.abstract)
    report = Report(tmp_path / "along")
    assert sentences.rate(report.findings, Numbers()).startswith("The order of the runs follows their initial rate")
    assert "follows their initial rates" in report.text(conclusions.abstract)
    assert "also used another learning-rate schedule" in report.text(conclusions.abstract)


def test_all_runs_at_an_end_are_named():
    text = sentences.ends({"A": 1.04, "B": 3.0, "C": 1.01, "D": 2.0}, Numbers(), "x", ".1f", " s")
    assert text == "1.0 s (A and C) to 3.0 s (B)"
    assert sentences.ends({"A": 1.04, "B": 1.01}, Numbers(), "x", ".1f", "") == "1.0 (all runs)"


def test_what_is_only_counted_has_no_latency_and_the_note_says_why():
    timed = {"median": 2.0, "q1": 1.5, "q3": 3.0, "n": 9}
    row = {"model": "a", "height": 8, "width": 8, "parameters": 1, "macs": 1, "flops": 2, "peak_memory_MB": 1}
    row |= {"device": "cpu", "device_name": "CPU", "threads": 1, "note": "warmed up", "latency_ms": timed}
    costs = pd.DataFrame([row, row | {"model": "b", "latency_ms": None, "note": "not timed: counted only"}])
    table = tables.efficiency_table(costs)
    assert table[["latency", "q1", "q3"]].loc["a, 8×8"].tolist() == [2, 1.5, 3]
    assert table[["latency", "q1", "q3"]].loc["b, 8×8"].isna().all()
    assert setup_text.efficiency_note(costs).endswith("not timed (counted only).")


def test_what_onnx_runtime_takes_stands_below_what_pytorch_takes():
    timed = {"median": 2.0, "q1": 1.5, "q3": 3.0, "n": 9}
    row = {"model": "a", "height": 8, "width": 8, "parameters": 1, "macs": 1, "flops": 2, "peak_memory_MB": 1}
    row |= {"device": "cpu", "device_name": "CPU", "threads": 1, "note": "warmed up", "latency_ms": timed}
    there = {"version": "1.2.3", "latency_ms": timed | {"median": 1.75}, "other_cores": 0.0}
    costs = pd.DataFrame([row | {"onnx_runtime": there}, row | {"model": "b", "onnx_runtime": None}])
    table = tables.efficiency_table(costs)
    assert list(table.index) == ["a, 8×8", "a, 8×8, ONNX Runtime", "b, 8×8"]
    assert table.loc["a, 8×8, ONNX Runtime", ["latency", "q1", "q3"]].tolist() == [1.75, 1.5, 3]
    assert table.loc["a, 8×8, ONNX Runtime", ["parameters", "GMACs", "memory"]].isna().all()
    assert " ONNX Runtime 1.2.3: the same network as an ONNX file, on as many threads." in setup_text.efficiency_note(
        costs
    )


def test_few_runs_are_said_to_decide_nothing(planted):
    """A single training of each says nothing of how much its curve varies."""
    details = conclusions.verdict_details(planted.findings.verdicts, planted.numbers)
    assert "every run has one seed). How much trainings differ can be estimated from two seeds or more" in details
    assert re.search(r"without which [b-e, and]+ cannot be decided", planted.text(conclusions.conclusions))


def test_a_point_that_does_not_decide_has_no_verdict_of_its_own(planted):
    details = conclusions.verdict_details(planted.findings.verdicts, planted.numbers)
    points = [line for line in details.splitlines() if line.startswith("- ")]
    ends = re.compile(
        r"\*(Supported|Contradicted|No difference that matters|Inconclusive)\.\*( \(For comparison, [^*]*\))?$"
    )
    assert points and all(ends.search(point) or "no run" in point for point in points)


def test_kind_8_a_run_without_npz_is_not_ranked_and_not_called_tied(tmp_path):
    write_runs(tmp_path, ("ce", "ce_dice", "ce_focal"), images=60)
    (tmp_path / "DeepLabV2_cv07_di03.npz").unlink()
    study = studies(read_runs(tmp_path))[0]
    evidence = Evidence.of(study, resamples=300)
    ranks = evidence.ranking()
    assert "DeepLabV2_cv07_di03" not in ranks.index and len(ranks) == 2
    (value,) = ranks.attrs["unranked"].values()
    assert value == pytest.approx(study.runs[1].final_val_mIoU)
    text = sentences.ranking(findings.Findings.of(study, evidence), Numbers())
    assert text.endswith(f"CE + Dice ({value:.2f} %) is not ranked: its files hold no results for single images.")


def test_kind_8_an_unranked_value_above_all_takes_no_first_place_from_the_others(planted):
    table = planted.findings.ranks.copy()
    table.attrs["unranked"] = {table.index[0]: 99.0, table.index[1]: 98.0}
    text = sentences.ranking(replace(planted.findings, ranks=table), Numbers())
    assert text.startswith("Of the runs with results for single images, ")
    assert "(99.00 %)" in text and text.endswith("are not ranked: their files hold no results for single images.")
