"""The claims' rules: on values worked by hand, on planted effects, on no effect at all, and on the published tables."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import synthetic_runs

from deeplab_lib.analysis import claims
from deeplab_lib.analysis.claim_tests import Everywhere, Higher, Scope, convergence, roughness
from deeplab_lib.analysis.claims import ALL, CLAIMS, SAME, claim, judge
from deeplab_lib.analysis.evidence import RARE, Evidence
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.statistics import BOUNDARY, CLASS_MEASURES, MIOU
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.grouping import studies
from deeplab_lib.study.results import read_runs

LOVASZ = ("ce_lovasz", "ce_lovasz_warmup", "ce_lovasz_dice", "ce_lovasz_focal")
COMBINED = tuple(key for key in RECIPES if key != "ce")


def evidence(seed=0, resamples=200, images=250, **options):
    study = synthetic_runs.study_in_memory(np.random.default_rng(seed), images=images, **options)
    return Evidence.of(study, resamples)


def verdict(verdicts, key):
    return next(found for found in verdicts if found.claim.key == key)


def finding(verdicts, key, part, scope):
    return next(f for f in verdict(verdicts, key).findings if part in f.part and f.scope == scope)


def without_h():
    """The single classes' bootstrap takes longer than all the rest; its claim has tests of its own."""
    return {key: rule for key, rule in CLAIMS.items() if key != "h"}


# --- statistics of curves --------------------------------------------------------------------------------------------


def table(values, **columns):
    return pd.DataFrame({"epoch": range(1, len(values) + 1), "val_mIoU": values, **columns})


def test_roughness_by_hand():
    """Later half of ten epochs: 10, 12, 11, 13, 12; second differences -3, 3 and -3."""
    assert roughness(table([0, 0, 0, 0, 0, 10, 12, 11, 13, 12.0])) == pytest.approx(3)
    assert roughness(table([0, 50, 3, 9, 5, 10, 20, 30, 40, 50.0])) == 0, (
        "the first half and a steady rise do not count"
    )
    assert np.isfinite(roughness(table(np.arange(9.0))))
    assert np.isnan(roughness(table(np.arange(8.0)))), "two differences are a bend"


def test_convergence_by_hand():
    """90 % of the final 50 is 45, first reached in the second of five epochs; a later dip changes nothing."""
    assert convergence(table([10, 46, 30, 49, 50.0])) == pytest.approx(2 / 5)
    assert convergence(table([10, 20, 30, 40, 50.0])) == 1
    assert np.isnan(convergence(table([np.nan])))


# --- planted effects -------------------------------------------------------------------------------------------------


def test_a_lovasz_run_that_leads_is_the_best():
    found = verdict(judge(evidence(effects={"ce_lovasz": 4}), without_h()), "a")
    assert (found.verdict, found.confounded) == (SUPPORTED, True)


def test_a_run_without_lovasz_that_leads_contradicts_it():
    found = verdict(judge(evidence(effects={"ce_focal": 4}), without_h()), "a")
    assert (found.verdict, found.direction) == (CONTRADICTED, -1)


def test_same_schedule_decides_and_is_not_confounded():
    verdicts = judge(evidence(effects=dict.fromkeys(COMBINED, 3)), without_h())
    within, across = (finding(verdicts, "c", "perform better", scope) for scope in (SAME, ALL))
    assert (within.verdict, within.confounded) == (SUPPORTED, False)
    assert (across.verdict, across.confounded) == (SUPPORTED, True)
    assert within in verdict(verdicts, "c").deciding
    assert across not in verdict(verdicts, "c").deciding
    assert finding(verdicts, "b", "CE ends lower", SAME).verdict == SUPPORTED


def test_a_claim_needs_all_its_parts():
    """Better than CE for sure, steadier or not inconclusive from one seed: so is the claim of both."""
    found = verdict(judge(evidence(effects=dict.fromkeys(COMBINED, 3)), without_h()), "c")
    assert found.verdict == INCONCLUSIVE
    assert {part.verdict for part in found.deciding} == {SUPPORTED, INCONCLUSIVE}


def test_boundaries_are_judged_on_the_boundary_score():
    verdicts = judge(evidence(boundary_effects={"ce_tversky": -3}), without_h())
    lost = finding(verdicts, "i", "loss on boundaries with Tversky", SAME)
    assert lost.verdict == SUPPORTED
    assert lost.figures["estimate"] == pytest.approx(-3, abs=1.5)


def test_rare_classes_are_those_under_one_percent():
    """Counted in the labels: the gain of a run in its rare classes alone is found, and only there."""
    study = synthetic_runs.study_in_memory(np.random.default_rng(0), images=250)
    pixels = study.runs[0].arrays["confusion"].sum((0, 2))
    rare = [c for c in range(19) if pixels[c] < 0.01 * pixels.sum()]
    assert 5 <= len(rare) <= 14
    focal = next(run for run in study.runs if run.recipe == "ce_focal")
    for c in rare:  # three quarters of what the run misses of a rare class turn into hits
        row = focal.arrays["confusion"][:, c]
        moved = (0.75 * row).astype(int) * (np.arange(19) != c)
        row -= moved
        row[:, c] += moved.sum(1)
    judged = Evidence.of(study, 200)
    assert list(judged.rare) == rare
    found = finding(judge(judged, without_h()), "f", "Focal", ALL)
    assert found.verdict == SUPPORTED
    assert found.figures["estimate"] > 10
    tversky = finding(judge(judged, without_h()), "f", "Tversky", SAME)
    assert abs(tversky.figures["estimate"]) < 3


def test_lovasz_behind_in_one_class_does_not_do_well_in_all():
    study = synthetic_runs.study_in_memory(np.random.default_rng(1), images=250)
    car = CLASS_NAMES.index("car")
    for run in study.runs:
        if run.recipe in LOVASZ:
            row = run.arrays["confusion"][:, car]
            moved = row[:, car] // 3
            row[:, car] -= moved
            row[:, CLASS_NAMES.index("truck")] += moved
    found = verdict(judge(Evidence.of(study, 400), {"h": CLAIMS["h"]}), "h")
    assert found.verdict == CONTRADICTED
    assert "largest difference of these is that in car" in found.deciding[0].text


def test_lovasz_as_good_as_the_rest_gives_up_no_class():
    """Equal quality, hardly any noise: no class lags by two points."""
    judged = evidence(seed=2, images=300, noise=0.01)
    assert verdict(judge(judged, {"h": CLAIMS["h"]}), "h").verdict == SUPPORTED


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-4.9, 2, SUPPORTED), (-5.1, 2, INCONCLUSIVE), (-5.1, -0.1, CONTRADICTED),
        (-4.9, -0.1, SUPPORTED),  # surely behind, and surely by less than matters in one class
    ],
)  # fmt: skip
def test_a_class_counts_as_kept_by_its_lower_bound_and_as_given_up_by_its_upper(low, high, expected):
    test = Everywhere("everywhere", ("A",), ("B",))
    known = {measure: {"A": 50.0, "B": 50.0} for measure in CLASS_MEASURES}
    basis = {"quantile": 3, "image_variance": 1, "seed_variance": 0, "images": 50, "seeds": 1, "reason": ""}
    fine = basis | {"estimate": 0.5, "low": 0.1, "high": 0.9}
    intervals = {("class", ("A",), ("B",), measure): fine for measure in CLASS_MEASURES}
    intervals["class", ("A",), ("B",), "class_3"] = basis | {"estimate": -0.5, "low": low, "high": high}
    scope = Scope(ALL, (), Evidence([], known, ()))
    assert test.judge(intervals, scope).verdict == expected


def test_single_classes_are_held_to_a_higher_confidence():
    asked = {}

    class Asked(Evidence):
        def rows(self, contrasts, confidence=0.95, groups=None):
            asked[next(iter(contrasts.values())).measure] = confidence
            return {}

    tests = [Everywhere("everywhere", ("A",), ("B",)), Higher("higher", ("A",), ("B",))]
    claims._intervals(Asked([], {}, ()), tests)
    assert asked == {MIOU: 0.95, "class_0": 0.995}


@pytest.mark.parametrize(
    "key, effects, expected",
    [
        ("a", {"ce_lovasz": 2}, SUPPORTED),
        ("a", {"ce_focal": 2}, CONTRADICTED),
        ("c", dict.fromkeys(COMBINED, 2), SUPPORTED),
    ],
)
def test_two_points_are_found_in_nine_trials_of_ten(key, effects, expected):
    """At 120 validation images and a margin of one point; of claim (c) the part on performance, on one schedule."""
    rng, hits, trials = np.random.default_rng(3), 0, 100
    for _ in range(trials):
        study = synthetic_runs.study_in_memory(rng, effects, images=120)
        (found,) = judge(Evidence.of(study, 300, margin=1.0), {key: CLAIMS[key]})
        hits += found.deciding[0].verdict == expected
    assert hits >= 0.9 * trials


def test_a_run_as_good_as_all_candidates_keeps_them_from_being_the_best():
    """The hardest case for the one opponent that refutes claim (a): the others are far behind, and correct nothing."""
    rng, false, trials = np.random.default_rng(4), 0, 60
    for _ in range(trials):
        study = synthetic_runs.study_in_memory(rng, dict.fromkeys(("ce", "ce_tversky", "ce_dice"), -8), images=60)
        (found,) = judge(Evidence.of(study, 200), {"a": CLAIMS["a"]})
        false += found.verdict in (SUPPORTED, CONTRADICTED)
    assert false <= 0.07 * trials


def test_what_figures_and_claims_share_is_computed_once(monkeypatch):
    computed, at_once = [], Evidence.simultaneous_intervals
    monkeypatch.setattr(
        Evidence, "simultaneous_intervals", lambda self, more: computed.append(len(more)) or at_once(self, more)
    )
    study = synthetic_runs.study_in_memory(np.random.default_rng(8), images=20)
    judged = Evidence.of(study, 60, claim_contrasts=claims.contrasts)
    judged.ranking()
    judge(judged)
    assert len(computed) == 1
    judge(judged, {"c": CLAIMS["c"]})
    assert len(computed) == 2 and computed[1] < computed[0], "other claims are a family of their own"


def test_a_difference_stands_with_one_interval_wherever_it_is_shown():
    """Boundaries in the figure and in claim (i); and what the claims add widens the ranking's intervals, too."""
    study = synthetic_runs.study_in_memory(np.random.default_rng(8), images=80)
    judged = Evidence.of(study, 300, claim_contrasts=claims.contrasts)
    tversky = RECIPES["ce_tversky"].stem
    shown = judged.from_baseline(BOUNDARY).loc[tversky]
    told = finding(judge(judged), "i", "loss on boundaries with Tversky", SAME).figures
    assert (told["low"], told["high"]) == (shown.low, shown.high)
    alone, family = Evidence.of(study, 300).from_baseline().loc[tversky], judged.from_baseline().loc[tversky]
    assert family.low < alone.low and family.high > alone.high and family.estimate == alone.estimate


def test_who_is_best_is_told_by_intervals_of_its_own():
    """Verdict and printed interval come from them; the wider ones of the ranking still tie the leader."""
    judged = evidence(seed=5, effects={"ce_focal": 2}, images=120, resamples=500)
    found = finding(judge(judged, {"a": CLAIMS["a"]}), "a", "best", ALL)
    leader = judged.ranking().iloc[0]
    assert (found.verdict, leader.name) == (CONTRADICTED, RECIPES["ce_focal"].stem)
    assert found.figures["high"] < 0
    assert leader.worst > 1


def test_kind_4_the_best_of_a_part_is_no_finding_about_all():
    """Among runs 1 to 4 the leader is named with its interval; the best of all eight is not told from them."""
    verdicts = judge(evidence(effects={"ce_dice": 6}), without_h())
    found = finding(verdicts, "a", "best", SAME)
    assert (found.verdict, found.direction) == (INCONCLUSIVE, -1)
    assert found.figures["high"] < 0
    assert found.text.startswith("only {have} of {all} configurations are trained on this schedule. Best run with it")


def test_runs_of_one_distribution_rarely_give_a_finding():
    """Of 200 trials at most 8 % hold a false finding, in any rule or pair of the ranking; equivalence is a true one."""
    rng, false, rules = np.random.default_rng(5), 0, without_h()
    for _ in range(200):
        judged = Evidence.of(synthetic_runs.study_in_memory(rng, images=60), 150)
        found = any(f.verdict in (SUPPORTED, CONTRADICTED) for v in judge(judged, rules) for f in v.findings)
        pairs = judged.pairs()
        false += found or bool(((pairs.low > 0) | (pairs.high < 0)).any())
    assert false <= 16


# --- scopes ----------------------------------------------------------------------------------------------------------


def test_five_runs_share_a_schedule():
    judged = evidence(images=30)
    assert [m.recipe for m in judged.same_schedule] == ["ce", "ce_tversky", "ce_lovasz", "ce_dice", "ce_lovasz_focal"]


def test_the_control_joins_the_five_runs_of_one_schedule(tmp_path):
    synthetic_runs.write_runs(tmp_path, images=20)
    later = [key for key in RECIPES if RECIPES[key].lr != 0.0001]
    synthetic_runs.write_runs(tmp_path, recipes=later, schedule="ce", images=20)
    judged = Evidence.of(studies(read_runs(tmp_path))[0], 100)
    assert [m.recipe for m in judged.same_schedule] == list(RECIPES)
    assert [m.recipe for m in judged.same_schedule if m.variant == "schedule_ce"] == later
    assert len(judged.recipes) == 8, "the control is no recipe of the ranking"
    verdicts = judge(judged, without_h())
    assert not verdict(verdicts, "a").confounded, "all eight losses at one schedule: the best of all can be told"
    assert finding(verdicts, "f", "Focal", SAME)


def test_a_column_that_files_lack_is_not_called_a_short_curve():
    study = synthetic_runs.study_in_memory(np.random.default_rng(0), images=30)
    for run in study.runs:
        run.table = run.table.drop(columns="val_ce")
        del run.arrays["log_loss"]
    found = judge(Evidence.of(study, 100), {"e": CLAIMS["e"]})
    part = finding(found, "e", "lower validation loss", ALL)
    assert part.text.startswith("no value for CE + Lovász, ") and not part.short


def test_a_loss_nobody_trained_is_no_evidence():
    judged = evidence(images=30, recipes=("ce", "ce_dice"))
    found = verdict(judge(judged, without_h()), "f")
    assert (found.verdict, found.findings) == (INCONCLUSIVE, ())


def test_the_best_of_all_is_not_told_before_all_are_finished():
    judged = evidence(effects={"ce_focal": 4}, recipes=("ce", "ce_lovasz", "ce_focal"))
    found = verdict(judge(judged, without_h()), "a")
    assert (found.verdict, found.direction) == (INCONCLUSIVE, -1)
    sentence = found.deciding[0].sentence(Numbers(), "x")
    assert sentence.startswith("only 3 of 8 configurations are finished. Best run with it: CE + Lovász")


def test_without_any_run_there_is_nothing_to_tell():
    judged = evidence(images=30, recipes=("ce_dice",))
    assert judged.baseline is None
    assert {found.verdict for found in judge(judged)} == {INCONCLUSIVE}
    assert judged.from_baseline().empty
    assert judged.class_differences().empty
    assert len(judged.ranking()) == 1
    assert judged.neighbours().empty


def another_network(folder, effect, parameters, macs):
    """The verdict on claim (g) from CE and the same recipe on another network."""
    synthetic_runs.write_runs(folder, recipes=("ce",), images=200)
    synthetic_runs.write_runs(folder, recipes=("ce",), images=200, suffix="lraspp", effects={"ce": effect})
    other = folder / "DeepLabV2_ce_lraspp.json"
    record = json.loads(other.read_text())
    record["config"]["model"], record["parameters"]["total"], record["macs"] = "lraspp", parameters, macs
    other.write_text(json.dumps(record))
    return verdict(judge(Evidence.of(studies(read_runs(folder))[0], 200), {"g": CLAIMS["g"]}), "g")


def test_other_networks_are_judged_when_they_were_run(tmp_path):
    found = another_network(tmp_path, 6, parameters=50_000, macs=10_000_000)
    assert [part.verdict for part in found.deciding] == [CONTRADICTED, SUPPORTED]


def test_dearer_networks_do_not_show_that_ours_is_efficient(tmp_path):
    found = another_network(tmp_path, -6, parameters=500_000, macs=10_000_000)
    assert [part.verdict for part in found.deciding] == [INCONCLUSIVE, CONTRADICTED]


def test_several_seeds_can_tell_what_one_cannot(tmp_path):
    """Six seeds each of CE and CE + Tversky, Tversky's curves shaken: the variance between seeds gives an interval."""
    synthetic_runs.write_runs(tmp_path, recipes=("ce", "ce_tversky"), seeds=range(6), images=20, epochs=12)
    study = studies(read_runs(tmp_path))[0]
    for run in study.runs:
        if run.recipe == "ce_tversky":
            run.table.loc[6:10, "val_mIoU"] += np.array([8, -8, 8, -8, 8])
    found = verdict(judge(Evidence.of(study, 100), {"d": CLAIMS["d"]}), "d").deciding[0]
    figures = found.figures
    assert (found.verdict, found.direction, figures["n_a"], figures["n_b"]) == (SUPPORTED, 1, 6, 6)
    values = {key: [roughness(run.table) for run in study.runs if run.recipe == key] for key in RECIPES}
    variance = (np.var(values["ce"], ddof=1) + np.var(values["ce_tversky"], ddof=1)) / 2
    reach = (figures["high"] - figures["estimate"]) / np.sqrt(variance * (1 / 6 + 1 / 6))
    assert reach == pytest.approx(3.17, abs=0.15), "Student's t of 10 degrees of freedom, 99 %"
    assert found.speaks_of == "the losses"


def test_one_seed_says_nothing_of_a_curve_and_that_it_takes_two():
    found = finding(judge(evidence(images=30), {"d": CLAIMS["d"]}), "d", "Tversky", SAME)
    assert (found.verdict, found.seeds, found.open_reason) == (INCONCLUSIVE, 2, "every run has one seed")


def test_what_all_runs_share_makes_no_difference_that_matters():
    """Eight times the same network: rounding decides nothing, and no claim on a difference is supported."""
    study = synthetic_runs.study_in_memory(np.random.default_rng(0), images=40)
    first = study.runs[0]
    for run in study.runs:
        run.arrays, run.table, run.final_class_val = first.arrays, first.table, first.final_class_val
    judged = Evidence.of(study, 100, claim_contrasts=claims.contrasts)
    assert {row.verdict for row in judged.neighbours().itertuples()} == {EQUIVALENT}
    found = {v.claim.key: v.verdict for v in judge(judged)}
    assert {found[key] for key in "abcfi"} == {EQUIVALENT} and found["h"] == SUPPORTED
    assert set(found.values()) <= {EQUIVALENT, SUPPORTED, INCONCLUSIVE}
    assert set(judged.ranking().ties) == {"a"}


def test_a_design_that_suffices_is_never_inconclusive():
    """What an inconclusive part asks for is always more than what there is, over studies of every kind."""
    rng = np.random.default_rng(11)
    asked = 0
    for images in (20, 60, 200):
        for effects in ({}, {"ce_focal": 2}, {"ce_tversky": -1, "ce_lovasz": 1}):
            study = synthetic_runs.study_in_memory(rng, effects, images=images)
            for part in (f for v in judge(Evidence.of(study, 150)) for f in v.findings):
                needed = [n for name, n in part.figures.items() if name.startswith("images_")]
                assert (part.verdict == INCONCLUSIVE) or not needed
                assert all(n > images for n in needed)
                asked += len(needed)
    assert asked > 50


# --- the published tables --------------------------------------------------------------------------------------------


def test_the_published_order_contradicts_that_lovasz_is_best_but_not_for_sure():
    found = verdict(judge(Evidence.published()), "a")
    assert (found.verdict, found.direction) == (INCONCLUSIVE, -1)
    figures = found.deciding[0].figures
    assert figures["with"] == 53.79
    assert figures["without"] == 53.9948
    assert figures["estimate"] == pytest.approx(-0.2048)
    assert "low" not in figures


def test_without_images_nothing_is_certain_but_the_order_is_told():
    verdicts = judge(Evidence.published())
    assert {found.verdict for found in verdicts} == {INCONCLUSIVE}
    within = finding(verdicts, "b", "CE ends lower", SAME)
    # CE has 50.50; Tversky, Lovász, Dice and Lovász with Focal 50.10, 50.82, 50.17 and 50.37, 50.365 in the mean.
    assert within.figures["estimate"] == pytest.approx(50.50 - (50.10 + 50.82 + 50.17 + 50.37) / 4)
    assert within.direction == -1
    assert "no value for CE" in finding(verdicts, "f", "Tversky", SAME).text


# --- a claim of one's own, and how findings are printed --------------------------------------------------------------


def test_a_claim_is_added_in_a_few_lines(monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", dict(CLAIMS))

    @claim("j", "Dice helps the rare classes.", "rare-class IoU with Dice minus CE's, above 0")
    def dice_helps(scope):
        return [Higher("Dice on rare classes", scope.having("dice"), scope.baseline, RARE)]

    verdicts = judge(evidence(images=30), {"j": claims.CLAIMS["j"]})
    assert [v.claim.key for v in verdicts] == ["j"]
    with pytest.raises(ValueError, match="'j' is already registered"):
        claim("j", "", "")(dice_helps)


def test_a_sentence_prints_the_figures_it_registers():
    numbers = Numbers()
    part = finding(judge(evidence(effects={"ce_dice": -2}, images=60), without_h()), "c", "perform better", SAME)
    sentence = part.sentence(numbers, "claims.c.1")
    assert numbers["claims.c.1.estimate"] == part.figures["estimate"]
    for end in ("estimate", "low", "high"):
        assert numbers.text(f"claims.c.1.{end}") in sentence
    assert "-" not in sentence.replace("mean-", ""), "a minus is typeset as one"


def test_ranking_neighbours_and_differences_agree_with_each_other():
    judged = evidence(effects={"ce_focal": 3}, images=150)
    table, neighbours, versus = judged.ranking(), judged.neighbours(), judged.from_baseline()
    assert list(neighbours.index) == list(zip(table.index, table.index[1:], strict=False))
    assert (neighbours.estimate >= 0).all()
    levels = table.value
    for (upper, lower), row in neighbours.iterrows():
        assert row.estimate == pytest.approx(levels[upper] - levels[lower])
    for name, row in versus.iterrows():
        assert row.estimate == pytest.approx(levels[name] - levels["DeepLabV2_ce"])
    assert table.index[0] == RECIPES["ce_focal"].stem
    assert versus.low[RECIPES["ce_focal"].stem] > 0


def test_a_pair_listed_the_other_way_round_is_turned():
    """Pairs name CE first, differences from it name it last."""
    judged = evidence(images=40, resamples=60)
    pairs, versus = judged.pairs(), judged.from_baseline()
    assert len(versus) == 7
    for name, row in versus.iterrows():
        listed = pairs.loc[judged.baseline.name, name]
        assert (row.estimate, row.low, row.high, row.p) == (-listed.estimate, -listed.high, -listed.low, listed.p)


def test_class_differences_hold_every_class_of_every_recipe():
    judged = evidence(images=40, resamples=60)
    differences = judged.class_differences()
    assert len(differences) == 7 * 19
    study = synthetic_runs.study_in_memory(np.random.default_rng(0), images=40)
    expected = {run.stem: synthetic_runs.iou(run.arrays["confusion"].sum(0)) for run in study.runs}
    gains = {method: values - expected[judged.baseline.name] for method, values in expected.items()}
    for (method, name), row in differences.iterrows():
        assert row.estimate == pytest.approx(gains[method][CLASS_NAMES.index(name)], nan_ok=True)


def test_boundary_levels_are_the_means_of_the_images():
    study = synthetic_runs.study_in_memory(np.random.default_rng(4), images=40)
    levels = Evidence.of(study, 60).levels(BOUNDARY)
    for run in study.runs:
        assert levels.estimate[run.stem] == pytest.approx(run.arrays["boundary_f"].mean())


def test_kind_4_of_eight_identical_runs_none_is_said_to_be_better_or_worse():
    study = synthetic_runs.study_in_memory(np.random.default_rng(0), noise=0.0)
    for run in study.runs:
        run.arrays = study.runs[0].arrays
        run.table = study.runs[0].table
        run.final_class_val = study.runs[0].final_class_val
    evidence = Evidence.of(study, resamples=200, claim_contrasts=claims.contrasts)
    found = {verdict.claim.key: verdict.verdict for verdict in judge(evidence)}
    assert CONTRADICTED not in found.values()
    assert [key for key, verdict in found.items() if verdict == SUPPORTED] == ["h"], "Lovász gives up no class"
    assert set(evidence.ranking().ties) == {"a"}
