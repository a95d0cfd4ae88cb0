"""Parameters: what each may be, what is meant by text, what is refused and how."""

import json
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import nbformat
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deeplab_lib.common.devices import check_device
from deeplab_lib.common.parameters import check_names, coerce
from deeplab_lib.config import DESCRIPTIONS, PARAMETERS, Config, from_notebook, note_once
from deeplab_lib.losses import canonical, make_loss
from deeplab_lib.recipes import PRESETS, RECIPES

ROOT = Path(__file__).parents[1]
RANGED = [name for name, item in PARAMETERS.items() if item.metadata["low"] is not None]
CHOSEN = [name for name, item in PARAMETERS.items() if item.metadata["choices"]]


def refusal(**parameters):
    """The one line with which `Config(**parameters)` is refused."""
    with pytest.raises(ValueError) as raised:
        Config(**parameters)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- what None means ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("key", RECIPES)
def test_none_is_what_recipe_and_preset_say(preset, key):
    config, scale, recipe = Config(loss=key, preset=preset), PRESETS[preset], RECIPES[key]
    assert (config.epochs, config.batch_size, config.model) == (scale.epochs, scale.batch_size, scale.model)
    assert config.size == (scale.image_height, scale.image_width)
    assert config.lr == pytest.approx(recipe.lr * scale.lr_factor) and config.follows == "logs"
    assert config.stem == recipe.stem and config.title == recipe.title and config.expression == recipe.loss
    assert all(value is not None for name, value in config.as_dict().items() if name != "schedule")
    json.dumps(config.as_dict())


def test_data_decides_the_preset(monkeypatch, tmp_path):
    assert Config().preset == "demo" and Config().toycity and Config().dataset_name == "toycity"
    real = Config(data=str(tmp_path / "CityScapes"))
    assert real.preset == "paper" and not real.toycity and real.dataset_name == "cityscapes"
    assert real.out_dir.endswith("runs/cityscapes") and real.pretrained == "auto"
    monkeypatch.setenv("CITYSCAPES_DATASET", str(tmp_path))
    assert Config().data == str(tmp_path) and Config().preset == "paper"


def test_a_warm_up_is_as_long_as_its_training():
    """500 steps, of 26,200 in the logs and 74,350 in the text; the demo adds a fifth, the text's a tenth."""
    steps = lambda preset, per_epoch, **more: Config("ce_lovasz_warmup", preset=preset, **more).poly(per_epoch)  # noqa: E731
    assert steps("paper", 524).warmup_steps == 500 and steps("paper", 10).warmup_steps == 500
    assert steps("demo", 80, epochs=5).warmup_steps == 80 + 8
    assert steps("demo", 524, epochs=50).warmup_steps == 5240 + 500
    assert steps("demo", 80, epochs=5, follows="code").warmup_steps == 80 + 8
    assert steps("demo", 80, epochs=5, follows="text").warmup_steps == 40 + 3
    assert steps("demo", 1487, epochs=50, follows="text").warmup_steps == 7435 + 500
    assert Config("ce", preset="demo", epochs=5).poly(80).warmup_steps == 80


@pytest.mark.parametrize(
    ("loss", "rates"),
    [
        ("ce", (0.006, 0.01)),
        ("ce_focal", (0.018, 0.003)),
        ("ours_mirrored", (0.01, 0.01)),
        ("0.5*ce + 0.5*ohem", (0.01, 0.01)),
    ],
)
def test_rates_at_demo_scale(loss, rates):
    logs, text = (Config(loss, preset="demo", follows=follows) for follows in ("logs", "text"))
    assert (logs.lr, text.lr) == pytest.approx(rates, rel=1e-12) and logs.stem != text.stem
    assert logs.result_dict()["follows"] == "logs" and text.result_dict()["follows"] == "text"


def test_by_the_studys_code_the_loss_sees_every_label():
    assert Config(follows="code").full_size_loss and not Config().full_size_loss
    complaint = "label_stride is 4, but with follows=code the loss sees every label; leave it out"
    assert refusal(follows="code", label_stride=4) == complaint


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Config().epochs = 3


def test_every_knob_is_explained():
    assert set(DESCRIPTIONS) == set(PARAMETERS) and all(len(text) > 5 for text in DESCRIPTIONS.values())


def test_the_notebook_says_the_same_of_every_parameter():
    cells = nbformat.read(ROOT / "notebooks" / "train.ipynb", as_version=4).cells
    source = next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", ()))
    assert dict(re.findall(r"(?m)^(\w+) = .*?  # (.*)$", source)) == DESCRIPTIONS


# -- text, as papermill and shells give it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        ("epochs", "7", 7), ("epochs", " 7 ", 7), ("epochs", 7.0, 7), ("epochs", "1e2", 100),
        ("lr", "1e-3", 0.001), ("lr", 1, 1.0), ("lr", ".5", 0.5),
        ("resume", "false", False), ("resume", "False", False), ("resume", "true", True), ("resume", "no", False),
        ("resume", "0", False), ("resume", 0, False), ("resume", 1, True),
        ("epochs", "None", 5), ("epochs", "null", 5), ("epochs", "", 5), ("seed", "none", 0), ("seed", None, 0),
        ("loss", "CE_Focal", "ce_focal"), ("loss", " ce ", "ce"), ("preset", "SMOKE", "smoke"), ("amp", "OFF", "off"),
        ("pretrained", "None", "none"), ("pretrained", "", "none"), ("pretrained", "AUTO", "auto"),
        ("pretrained", "false", "none"), ("pretrained", "True", "auto"), ("pretrained", "A/b.pth", "A/b.pth"),
        ("deterministic", "True", True), ("bn", "Eval", "eval"),
    ],
)  # fmt: skip
def test_text_is_read_as_meant(name, text, meant):
    value = getattr(Config(**({"preset": "smoke"} | {name: text})), name)
    assert value == meant and type(value) is type(meant)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("epochs", "seven", "epochs is 'seven'; it must be a whole number"),
        ("epochs", 2.5, "epochs is 2.5; it must be a whole number"),
        ("epochs", "[1, 2]", "epochs is '[1, 2]'; it must be a whole number"),
        ("epochs", [1, 2], "epochs is [1, 2]; it must be a whole number"),
        ("epochs", True, "epochs is True; it must be a whole number"),
        ("epochs", 10**400, "it must be a whole number"),
        ("epochs", 0, "epochs is 0; it must lie between 1 and 100000"),
        ("lr", "1e-3x", "lr is '1e-3x'; it must be a number"),
        ("lr", "nan", "lr is 'nan'; it must be a number"),
        ("lr", float("inf"), "lr is inf; it must be a number"),
        ("lr", 0, "lr is 0; it must be positive"),
        ("lr", -1, "lr is -1; it must lie between 0 and 10"),
        ("seed", 2**31, "seed is 2147483648; it must lie between 0 and 2147483647"),
        ("resume", "perhaps", "resume is 'perhaps'; it must be true or false"),
        ("resume", 2, "resume is 2; it must be true or false"),
        ("resume", 1.0, "resume is 1.0; it must be true or false"),
        ("loss", 5, "loss is 5; it must be text"),
        ("loss", "ce_focl", "no loss 'ce_focl', did you mean 'ce_focal'?; recipes: ce, ce_tversky"),
        ("loss", "jaccard", "ours_two_stage; terms: ce, focal, tversky, dice, lovasz, focal_tversky"),
        ("loss", "0.5*ce + 0.5*lovas", "no term 'lovas', did you mean 'lovasz'?"),
        ("loss", "['ce', 'dice']", "cannot read \"['ce', 'dice']\""),
        ("preset", "papre", "preset is 'papre', did you mean 'paper'?; valid: auto, paper, demo, smoke"),
        ("model", "deeplabv2_resnet11", "did you mean 'deeplabv2_resnet101'?"),
        ("amp", "bf61", "amp is 'bf61', did you mean 'bf16'?; valid: auto, bf16, fp16, off"),
        ("device", "gpu", "device is 'gpu'; valid: auto, cpu, cuda, cuda:N, mps"),
        ("image_width", 16, "image_width is 16; it must lie between 32 and 8192"),
        ("seed", -1, "seed is -1; it must lie between 0 and"),
        ("checkpoint_minutes", -1, "checkpoint_minutes is -1; it must lie between 0 and 1000000"),
        ("out_dir", __file__, "test_config.py is a file: name a folder as out_dir"),
        ("out_dir", f"{__file__}/runs", "test_config.py is a file: name a folder as out_dir"),
        ("accumulate", 3, "batch_size 2 cannot be split evenly over accumulate 3 x gpus 1"),
        ("output_stride", 12, "output_stride is 12; valid: 8, 16"),
        ("image_height", 270, "cells lie 8 pixels apart; use a multiple of 8, such as 264 or 272"),
        ("follows", "log", "follows is 'log', did you mean 'logs'?; valid: logs, text, code"),
        ("schedule", "ce_fokal", "did you mean 'ce_focal'?"),
        ("schedule", "ce_lovasz_warmup", "schedule 'ce_lovasz_warmup' weighs ce, lovasz, but the loss 'ce' has ce"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(name, value, complaint):
    assert complaint in refusal(**({"preset": "smoke"} | {name: value}))


@pytest.mark.parametrize("blank", ["", "  "])
@pytest.mark.parametrize("name", ["loss", "data", "preset", "model", "out_dir", "schedule"])
def test_kind_7_an_empty_text_is_refused_and_not_taken_for_the_default(name, blank):
    expected = f"{name} is {blank!r}, an empty text; name one, or leave the parameter out"
    assert expected in refusal(**({"preset": "smoke"} | {name: blank}))


@pytest.mark.parametrize("name", RANGED)
def test_ranges_hold_at_their_ends(name):
    about = PARAMETERS[name].metadata
    for beyond in (about["low"] - 1, about["high"] + 1):
        assert f"{name} is" in refusal(preset="smoke", **{name: beyond})
    for end in {about["low"], about["high"]} - {0 if name == "lr" else None}:
        assert coerce(name, end, about["kind"]) == end


@pytest.mark.parametrize("name", CHOSEN)
def test_choices_are_named_when_refused(name):
    wrong = "nonsense" if PARAMETERS[name].metadata["kind"] is str else 7
    told = refusal(**({"preset": "smoke"} | {name: wrong}))
    assert f"{name} is {wrong!r}" in told
    assert all(str(choice) in told for choice in PARAMETERS[name].metadata["choices"])


@given(st.sampled_from(list(PARAMETERS)), st.integers(0, 25), st.characters(categories=("Ll",)))
def test_a_misspelt_name_is_refused_and_the_right_one_offered(name, place, letter):
    misspelt = name[:place] + letter + name[place:]
    if misspelt in PARAMETERS:
        return
    with pytest.raises(ValueError, match=f"no parameter '{misspelt}'.*; parameters: loss, follows, data"):
        check_names([misspelt], PARAMETERS)
    with pytest.raises(TypeError):
        Config(**{misspelt: 1})


def test_did_you_mean():
    with pytest.raises(ValueError, match=r"no parameter 'losss', did you mean 'loss'\?"):
        check_names(["seed", "losss"], PARAMETERS)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("learning_rate", "lr"), ("Learning_Rate", "lr"), ("bs", "batch_size"), ("dataset", "data"),
     ("num_workers", "workers"), ("backbone", "model"), ("criterion", "loss"), ("random_state", "seed"),
     ("output_dir", "out_dir")],
)  # fmt: skip
def test_kind_9_what_other_programs_call_a_parameter_is_understood(name, meant):
    with pytest.raises(ValueError, match=f"no parameter '{name}', did you mean '{meant}'\\?"):
        check_names([name], PARAMETERS)


def test_another_name_is_offered_only_where_the_notebook_has_the_parameter():
    with pytest.raises(ValueError, match=r"no parameter 'learning_rate'; parameters: runs, title"):
        check_names(["learning_rate"], ["runs", "title"])


# -- the notebook's parameters -----------------------------------------------------------------------------------------


def notebook(*cells):
    """Globals of a notebook that has run `cells`."""
    namespace = {"In": ["", *cells]}
    for cell in cells:
        exec(cell, namespace)
    return namespace


DEFAULTS = '# Parameters. None means: automatic.\nloss = "ce"  # a recipe\nseed = 0\npreset = "smoke"\n'


def test_injected_parameters_win():
    config = from_notebook(notebook(DEFAULTS, '# Parameters\nloss = "ce_dice"\nseed = "3"\n', "import json\nx = 1"))
    assert (config.loss, config.seed, config.preset) == ("ce_dice", 3, "smoke")


def test_an_injected_name_that_is_no_parameter_is_refused():
    with pytest.raises(ValueError, match=r"no parameter 'sede', did you mean 'seed'\?"):
        from_notebook(notebook(DEFAULTS, "# Parameters\nsede = 3\n"))


def test_other_names_of_a_notebook_are_its_own():
    assert from_notebook(notebook(DEFAULTS, "device_count = 3\nlrs = []")).loss == "ce"


# -- the name of a run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "stem"),
    [
        ({}, "DeepLabV2_ce"),
        ({"seed": 2}, "DeepLabV2_ce_seed2"),
        ({"lr": 1e-3}, "DeepLabV2_ce_lr0.001"),
        ({"lr": 0.0001, "epochs": 50}, "DeepLabV2_ce"),
        ({"follows": "text"}, "DeepLabV2_ce_text"),
        ({"follows": "text", "lr": 0.001, "batch_size": 2}, "DeepLabV2_ce_text"),
        ({"follows": "code", "seed": 1, "lr": 0.001}, "DeepLabV2_ce_code_seed1_lr0.001"),
        ({"follows": "logs"}, "DeepLabV2_ce"),
        ({"epochs": 3, "bn": "eval"}, "DeepLabV2_ce_epochs3_bneval"),
        ({"image_height": 256, "image_width": 512, "batch_size": 8}, "DeepLabV2_ce_batch8_h256_w512"),
        ({"model": "deeplabv3_resnet101"}, "DeepLabV2_ce_deeplabv3_resnet101"),
        ({"output_stride": 8}, "DeepLabV2_ce"),
        ({"output_stride": 16}, "DeepLabV2_ce_stride16"),
        ({"loss": "ce_focal", "schedule": "ce"}, "DeepLabV2_ce05_f05_warnup_lr_0.0003_schedule_ce"),
        ({"loss": "0.6*ce + 0.4*dice"}, "DeepLabV2_0.6ce_0.4dice"),
        ({"workers": 3, "device": "cpu", "amp": "bf16", "resume": False, "checkpoint_minutes": 1}, "DeepLabV2_ce"),
    ],
)
def test_what_changes_the_numbers_and_is_not_the_recipes_enters_the_stem(parameters, stem):
    assert Config(**({"preset": "paper", "data": "/somewhere"} | parameters)).stem == stem


def test_a_network_with_a_grid_of_its_own_has_no_other():
    complaint = refusal(preset="smoke", model="fcn_resnet101", output_stride=16)
    assert complaint == "output_stride is 16, but fcn_resnet101 has a grid of its own; use a deeplabv2 network"


@given(st.lists(st.sampled_from(("ce", "dice", "lovasz", "focal")), min_size=1, max_size=4, unique=True), st.randoms())
def test_one_loss_is_one_run_however_it_is_written(names, random):
    weights = [random.choice((0.1, 0.25, 1, 2)) for _ in names]
    space = lambda: " " * random.randint(0, 2)  # noqa: E731
    spelt = [
        "+".join(space() + f"{weight:{style}}" + space() + "*" + space() + random.choice((name, name.upper())) + space()
                 for weight, name in zip(weights, names, strict=True))
        for style in ("g", ".3f", ".2e")
    ]  # fmt: skip
    assert len({canonical(text) for text in spelt}) == 1
    assert make_loss(canonical(spelt[0])).weights == dict(zip(names, map(float, weights), strict=True))
    assert len({Config(loss=text, preset="smoke").stem for text in spelt}) == 1


@pytest.mark.parametrize(
    ("loss", "schedule", "told"),
    [
        ("ce_lovasz_warmup", None, RECIPES["ce_lovasz_warmup"].motivation),
        ("ce_lovasz_warmup", "ce", "The loss of CE + Lovász (warm-up), on the schedule of CE."),
        ("ce_lovasz", "ce", RECIPES["ce_lovasz"].motivation),  # its own schedule
        ("ce + dice", None, "A loss of your own, on the schedule of CE."),
        ("ce + dice", "ce_focal", "A loss of your own, on the schedule of CE + Focal."),
    ],
)
def test_a_run_is_described_as_it_is_trained(loss, schedule, told):
    assert Config(preset="smoke", loss=loss, schedule=schedule).about == told


def test_options_are_kept_in_the_canonical_spelling():
    assert canonical("1.0*FOCAL( gamma = 3.0 )+0.50*tversky(alpha=0.1,beta=.9)") == (
        "focal(gamma=3) + 0.5*tversky(alpha=0.1, beta=0.9)"
    )


@pytest.mark.parametrize("key", RECIPES)
def test_canonical_spelling_means_the_same(key):
    text = canonical(RECIPES[key].loss)
    assert canonical(text) == text
    assert make_loss(text).weights == make_loss(RECIPES[key].loss).weights


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("tpu", "device is 'tpu'; valid: auto, cpu, cuda, cuda:N, mps"),
        ("cuda:2", "device is 'cuda:2', but this machine's GPUs are 0 to 1"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, device, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cuda:1") == "cuda:1" and check_device("auto") == "cuda"
    with pytest.raises(ValueError, match=words):
        check_device(device)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [("amp", False, "off"), ("pretrained", False, "none"), ("augment", False, "none")],
)
def test_off_and_no_which_yaml_reads_as_false_are_still_meant(name, value, meant):
    assert getattr(Config(preset="smoke", **{name: value}), name) == meant


@pytest.mark.parametrize("parameters", [{"loss": False}, {"amp": True}, {"preset": False}])
def test_a_boolean_that_no_word_stands_for_is_refused(parameters):
    with pytest.raises(ValueError, match=r"is (True|False); it must be text"):
        Config(**parameters)


def test_what_was_a_parameter_is_accepted_and_a_line_says_what_became_of_it(capsys):
    note_once.cache_clear()
    for _ in range(2):
        assert Config(without="fused, tf32") == Config(fast=False)
    told = "note: without is no parameter any more: without='fused, tf32' is taken as fast=False\n"
    assert capsys.readouterr().out == told, "once a process"
    for nothing in ("", None, "None"):
        assert Config(without=nothing) == Config()
    assert Config(without="fused", fast=True).fast, "what is asked for by its own name counts"
    assert "without" not in Config(without="fused").given
    assert capsys.readouterr().out.count("note") == 1


def test_a_notebook_of_before_still_runs(capsys):
    """Its cell of parameters names what is none any more; an error does not offer it."""
    cell = "# Parameters\nloss = 'ce'\nwithout = 'fused'"
    assert not from_notebook({"loss": "ce", "without": "fused", "In": [cell]}).fast
    with pytest.raises(ValueError, match="no parameter 'withot'") as error:
        from_notebook({"In": ["# Parameters\nwithot = 'fused'"]})
    assert "without" not in str(error.value)
