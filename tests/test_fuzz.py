"""Two thousand inputs, each with its meaning or its refusal known beforehand.

Every input is built from its meaning, spelt in one of the many ways that people, shells and spreadsheets spell it, or
built with one known fault. It must be read as meant, or end in one line of ours: no error from inside torch, PIL or
pandas, nothing half-written.
"""

import csv
import io
import math
import random
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import deeplab_lib
from deeplab_lib.config import Config
from deeplab_lib.data.label_files import read_labels
from deeplab_lib.labels import LABELS
from deeplab_lib.losses import TERMS, make_loss
from deeplab_lib.study import foreign
from deeplab_lib.study.foreign import REQUIRED

REFUSED = object()
PARAMETERS = {item.name: item.metadata for item in fields(Config)}
JUNK = (
    "many",
    "1,5",
    "[1, 2]",
    "{}",
    "0x10",
    "1e",
    "--3",
    "½",
    "nan",
    "inf",
    [1],
    {"a": 1},
    b"1",
    1j,
    math.nan,
    -math.inf,
)


def outcome(read):
    """What `read()` returns, or `REFUSED` if it ended in one readable line of this library."""
    try:
        return read()
    except (ValueError, FileNotFoundError) as error:
        last = error.__traceback__
        while last.tb_next:
            last = last.tb_next
        assert Path(last.tb_frame.f_code.co_filename).is_relative_to(Path(deeplab_lib.__file__).parent), repr(error)
        assert str(error) and "\n" not in str(error), repr(error)
        assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__), repr(error)
        return REFUSED


# -- parameters --------------------------------------------------------------------------------------------------------


def parameter(rng):
    """`(parameters, name, meaning)`."""
    name = rng.choice(
        [
            name
            for name, about in PARAMETERS.items()
            if about["low"] is not None or about["choices"] or about["kind"] is bool
        ]
    )
    about, base = PARAMETERS[name], {"preset": "smoke", "device": "cpu"}
    if about["kind"] is bool:
        value, meaning = bool_case(rng)
    elif about["choices"]:
        value, meaning = choice_case(rng, about["choices"])
    else:
        value, meaning = number_case(rng, about)
    if meaning is not REFUSED:  # what must go together goes together
        company = {"accumulate": {"batch_size": meaning}, "crops": {"augment": "standard"}}
        company |= {"gpus": {"batch_size": meaning, "bn": "eval"}, "schedule": {"loss": meaning}}
        company |= {"label_stride": {"output_stride": 16}}
        base |= company.get(name, {})
    return base | {name: value}, name, meaning


def bool_case(rng):
    if rng.random() < 0.3:
        return rng.choice([*JUNK, 2, 1.0, "tru", "on and off"]), REFUSED
    meaning = rng.random() < 0.5
    word = rng.choice(("true", "yes", "1") if meaning else ("false", "no", "0"))
    return rng.choice([meaning, int(meaning), rng.choice((word, word.upper(), word.title(), f" {word}\n"))]), meaning


def choice_case(rng, choices):
    meaning = rng.choice(choices)
    if isinstance(meaning, int):
        if rng.random() < 0.3:
            return rng.choice([3, 64, -meaning - 1, meaning + 0.5, "eight", [meaning], True]), REFUSED
        return rng.choice([meaning, float(meaning), f" {meaning} "]), meaning
    if rng.random() < 0.3:
        wrong = rng.choice([meaning + "x", meaning[1:] + "_", "?", "true story", 7, 1.5, ["ce"], True])
        return wrong, REFUSED
    return rng.choice([meaning, meaning.upper(), meaning.title(), f"  {meaning} "]), meaning


def number_case(rng, about):
    low, high, kind = about["low"], about["high"], about["kind"]
    if rng.random() < 0.4:
        beyond = rng.choice([low - rng.randint(1, 99), high + rng.randint(1, 10**6), 10 ** rng.randint(320, 400), True])
        return rng.choice([beyond, str(beyond), rng.choice(JUNK), *([2.5, "2.5"] if kind is int else [])]), REFUSED
    if kind is int:
        meaning = rng.randint(low, min(high, 10 ** rng.randint(2, 5)))
        return rng.choice(
            [meaning, float(meaning), f"{meaning}", f" {meaning}\t", f"{meaning}.0", f"+{meaning}", f"{meaning}e0"]
        ), meaning
    meaning = rng.uniform(low + 1e-6, min(high, 1e3))
    return rng.choice([meaning, repr(meaning), f" {meaning!r}", f"{meaning:.17e}", f"{meaning:.17E}"]), meaning


def read_parameter(case, _):
    parameters, name, meaning = case
    got = outcome(lambda: Config(**parameters))
    if name in ("image_height", "image_width") and meaning is not REFUSED and meaning % 8 > 1:
        meaning = REFUSED  # the grid does not reach the image's corner
    if got is REFUSED or meaning is REFUSED:
        return got is meaning
    value = getattr(got, name)
    resolved = {"preset": {"auto": "demo"}, "amp": {"auto": got.amp}, "schedule": {meaning: value}}.get(name, {})
    return value == resolved.get(meaning, meaning) and type(value) in (PARAMETERS[name]["kind"], type(None))


# -- loss expressions --------------------------------------------------------------------------------------------------


def expression(rng):
    """`(text, {term: (weight, options)})`."""
    meaning = {}
    for name in rng.sample(("ce", "focal", "tversky", "dice", "lovasz"), rng.randint(1, 4)):
        options = {"focal": ("gamma",), "tversky": ("alpha", "beta")}.get(name, ())
        chosen = rng.sample(options, rng.randint(0, len(options)))
        meaning[name] = (
            round(rng.uniform(0.01, 3), rng.randint(2, 6)),
            {o: round(rng.uniform(0.1, 4), 3) for o in chosen},
        )
    terms = [spell_term(rng, name, *meaning[name]) for name in meaning]
    if rng.random() < 0.6:
        return "+".join(terms), meaning
    faults = (
        lambda: terms.append(rng.choice(terms)),  # the same term twice
        lambda: terms.append(
            rng.choice(("", " ", "dise", "ce2", "0.5*", "*ce", "0.3 ce", "0*ce", "-1*ce", "1e400*ce"))
        ),
        lambda: terms.append(
            rng.choice(("ce()()", "(ce)", "ce(", "ce)", "ce(x=1)", "focal(gamma=-1)", "focal(gamma=two)"))
        ),
        lambda: terms.append(
            rng.choice(("focal(gamma=1,)", "tversky(alpha=0,beta=0)", "focal(gamma=1 2)", "lovász", "٣*ce"))
        ),
        lambda: terms.insert(0, rng.choice("-*/;&|\\'\"#@!,.=(\x00\n")),
        lambda: terms.append(f"{terms[0]} {rng.choice(('-', '*', '/', ',', ';', 'and', '5'))} {terms[0]}"),
    )
    rng.choice(faults)()
    return "+".join(terms), REFUSED


def spell_term(rng, name, weight, options):
    def gap():
        return rng.choice(("", "", " ", "  ", "\t"))

    def number(x):
        spellings = (repr(x), f"{x:.8e}", f"{x:.9f}", f"0{x!r}", repr(x).removeprefix("0") if x < 1 else repr(x))
        return rng.choice(spellings)

    word = rng.choice((name, name.upper(), name.title()))
    inside = f"{gap()},{gap()}".join(f"{key}{gap()}={gap()}{number(value)}" for key, value in options.items())
    brackets = f"{gap()}({gap()}{inside}{gap()})" if options or rng.random() < 0.1 else ""
    return f"{gap()}{number(weight)}{gap()}*{gap()}{word}{brackets}{gap()}"


LOGITS, TRUTH = torch.randn(2, 5, 4, 4, generator=torch.manual_seed(0)), torch.arange(32).view(2, 4, 4) % 5


def read_expression(case, _):
    text, meaning = case
    loss = outcome(lambda: make_loss(text))
    if loss is REFUSED or meaning is REFUSED:
        return loss is meaning
    value = sum(weight * TERMS[name](**options)(LOGITS, TRUTH) for name, (weight, options) in meaning.items())
    return loss.weights == {name: weight for name, (weight, _) in meaning.items()} and torch.allclose(
        loss(LOGITS, TRUTH), value
    )


# -- tables of runs ----------------------------------------------------------------------------------------------------


def table(rng):
    """`(bytes of a CSV, {column: values})`."""
    count = rng.randint(1, 6)
    values = {name: [round(rng.uniform(0, 100), 4) for _ in range(count)] for name in REQUIRED}
    values["epoch"] = sorted(rng.sample(range(1, 60), count))
    for _ in range(rng.randint(0, 5)):
        values[rng.choice(REQUIRED[2:])][rng.randrange(count)] = math.nan
    columns = rng.sample(REQUIRED, len(REQUIRED)) if rng.random() < 0.5 else list(REQUIRED)
    rows = [columns] + [[spell_number(rng, values[name][i]) for name in columns] for i in range(count)]
    rows[1:] = rng.choice((rows[1:], rows[:0:-1], rng.sample(rows[1:], count)))
    if rng.random() < 0.4:
        fault = rng.choice(FAULTS)
        return fault(rng, rows), REFUSED
    if rng.random() < 0.3:
        for i, row in enumerate(rows):
            row.append("note" if not i else rng.choice(("", "good, I think", "7")))
    return to_bytes(rng, rows), values


def spell_number(rng, value):
    if math.isnan(value):
        return rng.choice(("", "nan", "NaN", " "))
    return rng.choice((repr(value), f" {value!r}", f"{value:.10e}"))


def to_bytes(rng, rows):
    text = io.StringIO()
    csv.writer(
        text, lineterminator=rng.choice(("\n", "\r\n")), quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    ).writerows(rows)
    return text.getvalue().encode(rng.choice(("utf-8", "utf-8-sig")))


def cell(rng, rows, column, text):
    rows[rng.randrange(1, len(rows))][rows[0].index(column)] = text
    return to_bytes(rng, rows)


def without(rows, *columns):
    kept = [place for place, column in enumerate(rows[0]) if column not in columns]
    return [[row[place] for place in kept] for row in rows]


FAULTS = (
    lambda rng, rows: rng.choice((b"", b"\n\n", b"<!DOCTYPE html><html>", bytes(range(128, 256)), b"\xff\xfe1\x00")),
    lambda rng, rows: cell(rng, rows, rng.choice(REQUIRED), rng.choice(("much", "1;5", "12 %", "--", "0x1F", "1e"))),
    lambda rng, rows: cell(rng, rows, rng.choice(REQUIRED[4:-1]), rng.choice(("100.5", "-0.1", "1e9", "-5"))),
    lambda rng, rows: cell(rng, rows, "epoch", rng.choice(("-1", "1.5", "", "nan", "1e9"))),
    lambda rng, rows: to_bytes(rng, without(rows, "epoch")),  # what is needed is missing
    lambda rng, rows: to_bytes(rng, without(rows, "val_mIoU", "val_loss")),
    lambda rng, rows: to_bytes(rng, [[*row, row[0]] for row in rows]),  # a column twice
    lambda rng, rows: to_bytes(rng, [rows[0], *([*row, "1"] for row in rows[1:])]),  # more values than columns
    lambda rng, rows: to_bytes(rng, [[f"x{name}" for name in rows[0]], *rows[1:]]),  # other names
)  # fmt: skip


def read_table(case, path):
    content, meaning = case
    path = path.with_suffix(".csv")
    path.write_bytes(content)
    got = outcome(lambda: foreign.read_table(path).frame)
    if got is REFUSED or meaning is REFUSED:
        return got is meaning
    return all(np.allclose(got[name], values, rtol=1e-9, equal_nan=True) for name, values in meaning.items())


# -- label files -------------------------------------------------------------------------------------------------------

TRAIN_IDS = {label.id: label.train_id for label in LABELS if label.id >= 0} | {255: 255}


def label_file(rng):
    """`(ending, bytes of a PNG, train ids)`."""
    by_id = rng.random() < 0.5
    ending, legal = ("labelIds", sorted(TRAIN_IDS)) if by_id else ("labelTrainIds", [*range(19), 255])
    read = ("plain", "plain", "palette", "channels", "wide", "one bit")
    kind = rng.choice((*read, "illegal", "strange palette", "colours", "cut", "junk"))
    legal = [0, 255] if kind == "one bit" else legal
    shape = rng.randint(1, 12), rng.randint(1, 12)
    ids = np.array([rng.choice(legal) for _ in range(math.prod(shape))], dtype=np.uint8).reshape(shape)
    meaning = np.vectorize(TRAIN_IDS.get)(ids) if by_id else ids
    if kind == "illegal":
        ids.flat[rng.randrange(ids.size)] = rng.choice([v for v in range(256) if v not in legal])
    image = Image.fromarray(ids.astype(np.uint16) if kind == "wide" else ids)
    if kind == "one bit":
        image = image.convert("1")
    if kind == "palette":  # the grey values in any order, as an optimiser of PNG files leaves them
        order = rng.sample(range(256), 256)
        image = Image.fromarray(np.argsort(order)[ids].astype(np.uint8))
        image.putpalette(bytes(value for value in order for _ in range(3)))
    if kind == "strange palette":
        image.putpalette(bytes(rng.randrange(256) for _ in range(768)))
    if kind == "channels":
        image = image.convert(rng.choice(("RGB", "RGBA", "LA")))
    if kind == "colours":
        image = Image.fromarray(np.stack([ids, ids, 255 - ids], -1))
    content = io.BytesIO()
    image.save(content, "png")
    content = content.getvalue()
    if kind == "cut":
        content = content[: rng.randrange(len(content) - 26)]  # without the last pixels
    if kind == "junk":
        content = rng.choice(
            (b"", b"<html>log in</html>", b"\x89PNG\r\n\x1a\n", bytes(rng.randrange(256) for _ in range(200)))
        )
    return ending, content, meaning if kind in read else REFUSED


def read_label_file(case, path):
    ending, content, meaning = case
    path = path.with_name(f"ulm_000000_000001_gtFine_{ending}.png")
    path.write_bytes(content)
    got = outcome(lambda: read_labels(path))
    if got is REFUSED or meaning is REFUSED:
        return got is meaning
    return got.dtype == np.uint8 and np.array_equal(got, meaning)


# ----------------------------------------------------------------------------------------------------------------------


KINDS = ((parameter, read_parameter, 600), (expression, read_expression, 600), (table, read_table, 250))
KINDS += ((label_file, read_label_file, 550),)


@pytest.mark.parametrize(("make", "right", "count"), KINDS)
def test_inputs_are_read_as_meant_or_refused_in_one_line(make, right, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, refused = random.Random(make.__name__), 0
    for number in range(count):
        case = make(rng)
        assert right(case, tmp_path / "input"), f"{make.__name__} {number}: {case}"
        refused += case[-1] is REFUSED
    assert 0.2 * count < refused < 0.8 * count
    assert len(list(tmp_path.iterdir())) <= 2, "something was left behind"


def test_there_are_two_thousand():
    assert sum(count for _, _, count in KINDS) == 2000
