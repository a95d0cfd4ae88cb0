"""Kind 8: what a student hands in is untrusted. It is text wherever it shows, and costs at most itself."""

import io
import json
import re
import shutil

import nbformat
import numpy as np
import pypdf
import pytest
from bs4 import BeautifulSoup
from helpers import synthetic_runs
from IPython.display import HTML

from deeplab_lib import report
from deeplab_lib.analysis import conclusions, findings, plots, reproduction, setup_text, tables
from deeplab_lib.analysis import gallery as gallery_module
from deeplab_lib.analysis.gallery import Gallery, warn
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.common.markup import as_markdown, as_plain, as_text
from deeplab_lib.report.export import html, pdf
from deeplab_lib.report.manuscript import Manuscript
from deeplab_lib.study.foreign import ResultsError
from deeplab_lib.study.grouping import studies
from deeplab_lib.study.hand_in import FIELDS, MAX_JSON, read_record
from deeplab_lib.study.results import read_folder, read_run

# Harmless, and each live in one of the languages that a report passes through, if it is not escaped.
MARKS = [
    "<b>mark</b>", "**mark**", "_mark_", "`mark`", "$mark$", "#mark", "[@mark]", "@mark", "![mark](mark.png)",
    "[mark](mark)", "\\mark{mark}", "{mark}", "#strong[mark]", "~~mark~~", "a -- b", "&lt;mark&gt;", "https://mark.example/",
]  # fmt: skip
EVERY_MARK = " ".join(MARKS)
# Fields whose values a run's record chooses from a list, or that are read as an expression: these are refused.
CHOSEN = {"recipe", "loss", "config.loss", "config.schedule", "config.follows"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    synthetic_runs.write_runs(folder, recipes=("ce", "ce_dice"), images=4, epochs=3, preset="smoke")
    return folder


@pytest.fixture
def folder(runs, tmp_path):
    return shutil.copytree(runs, tmp_path / "runs")


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def edit_arrays(path, **arrays):
    with np.load(path) as stored:
        content = dict(stored) | arrays
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


def marked(value, key=""):
    """The record with `EVERY_MARK` in every string that is none of a list's choices."""
    if isinstance(value, dict):
        return {name: marked(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
    if isinstance(value, list):
        return [marked(inner, key) for inner in value]
    return EVERY_MARK if isinstance(value, str) and key not in CHOSEN else value


@pytest.mark.parametrize("mark", MARKS)
def test_kind_8_text_comes_back_as_it_was_and_is_text_already_the_second_time(mark):
    assert as_plain(as_text(mark)) == mark and as_text(as_text(mark)) == as_text(mark)
    assert f"{as_text(mark)}".format() == as_text(mark)  # a title with braces is formatted again in captions
    assert not re.search(r"[<>*`$\\\[\]{}@!~]", as_markdown(as_text(mark)))


def test_kind_8_nothing_of_a_terminal_sequence_is_left():
    assert as_text("a\x1b[2Jb\x9b1mc\r\nd\u202ee") == "a \ue05b2Jb 1mc d e"


def document(folder):
    """The notebook of what a report shows of its runs' records: title block, text, tables, a figure, a warning."""
    everything, left_out = read_folder(folder, EVERY_MARK)
    study, *others = studies(everything)
    numbers = Numbers()
    titles = {run.stem: run.label for run in study.runs}
    gallery = Gallery(findings.scope(study), numbers, titles)
    efficiency = tables.read_efficiency(folder)
    outputs = []

    def keep(data, metadata=None, raw=False):
        kind = "text/html" if isinstance(data, HTML) else "text/markdown"
        bundle = data if raw else {kind: data.data}
        outputs.append(nbformat.v4.new_output("display_data", bundle, metadata=metadata or {}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "display", keep)
        patch.setattr(gallery_module, "display", keep)
        report.front_matter(EVERY_MARK, subtitle=EVERY_MARK, author=EVERY_MARK, affiliation=EVERY_MARK, 
                            scope=gallery.scope, abstract=f"Of {study.runs[0].label}.", date="2026-01-01")  # fmt: skip
        warn(conclusions.from_scratch(*findings.starts(study.runs)))
        for text in (setup_text.data(study.runs, numbers), setup_text.model(study.runs, numbers)):
            gallery.say(text)
        results = tables.results_table(study.finished, efficiency)
        words = {"run": study.runs[0].label, "best": "", "seeds": ""}
        gallery.say(
            "",
            gallery.table("results", results, setup_text.latency_note(results)),
            gallery.figure("confusion", plots.curves, study.runs, "val_mIoU", "mIoU", words=words),
        )
        gallery.leave_out("frequency", f"no picture of {study.runs[0].label}")
        if len(efficiency):
            costs, note = tables.efficiency_table(efficiency), setup_text.efficiency_note(efficiency)
            gallery.say("", gallery.table("efficiency", costs, note))
        gallery.say(setup_text.missing(study, others, gallery, left_out))
        gallery.say("", gallery.table("configuration", tables.configurations(study.runs)))
        for label, table in zip(("shared", "different"), tables.provenance(study.runs), strict=True):
            gallery.say("", gallery.table(label, table))
        gallery.say(reproduction.again(study.runs, folder))
    cell = nbformat.v4.new_code_cell("", outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Runs"), cell])
    return notebook


def test_kind_8_every_string_of_a_record_is_text_in_html_and_pdf(folder):
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(marked(json.loads(path.read_text()))))
    names = [f"{number} {EVERY_MARK}" for number in range(4)]
    for path in folder.glob("*.npz"):
        edit_arrays(path, names=np.array(names), prediction_names=np.array(names))
    row = {name: EVERY_MARK for name in ("model", "device", "device_name", "note")}
    row |= dict(height=64, width=128, parameters=1, macs=1, flops=2, threads=1, latency_ms=None, peak_memory_MB=None)
    (folder / "efficiency.json").write_text(json.dumps({"rows": [row]}))
    notebook = document(folder)
    manuscript = Manuscript(notebook)
    page = html(manuscript).decode().replace("\u200b", "")
    soup = BeautifulSoup(page, "html.parser")
    assert not [tag for tag in soup.find_all(True) if tag.get_text(strip=True) == "mark"]  # no element, link or formula
    assert not soup.find_all(src=re.compile("mark")) and not soup.find_all(href=re.compile("mark[.)]"))
    assert not [tag for tag in soup.find_all("math")] and not soup.find_all("b")
    text = " ".join(soup.get_text().split())
    assert not re.search("[\ue000-\uf8ff]", page)
    for mark in MARKS:
        assert text.count(mark) >= 10, mark
    reader = pypdf.PdfReader(io.BytesIO(pdf(manuscript)))
    squeezed = re.sub(r"[\s\u200b\u00ad-]", "", "".join(sheet.extract_text() for sheet in reader.pages))
    for mark in MARKS:
        assert squeezed.count(re.sub(r"[\s-]", "", mark)) >= 5, mark
    assert reader.metadata.title == EVERY_MARK


def test_kind_8_a_title_that_begins_with_an_at_sign_is_a_title():
    front = {"title": "@ETH", "author": "@ada", "subtitle": "<b>sub</b>", "bibliography": "@book{a, title={A}}"}
    cell = nbformat.v4.new_code_cell("")
    cell.outputs.append(nbformat.v4.new_output("display_data", {report.FRONT_MATTER_MIME: front}))
    soup = BeautifulSoup(html(Manuscript(nbformat.v4.new_notebook(cells=[cell]))), "html.parser")
    assert {"@ETH", "@ada", "<b>sub</b>"} <= {text.strip() for text in soup.find_all(string=True)}


FIELD_NAMES = sorted(name for name in FIELDS if name != "config")


def test_kind_8_each_field_dropped_in_turn_costs_no_more_than_itself(folder):
    path = folder / "DeepLabV2_ce.json"
    whole = path.read_text()
    top = [name for name in json.loads(whole) if name not in FIELDS]
    for name in [*FIELD_NAMES, *top, "sessions.0"]:
        *parents, last = name.split(".")

        def drop(record, parents=parents, last=last):
            for key in parents:
                record = record.get(key, {})
            if isinstance(record, list):
                record.clear()
            else:
                record.pop(last, None)

        path.write_text(whole)
        edit(path, drop)
        runs, left_out = read_folder(folder)
        assert len(runs) + len(left_out) == 2, name
        study = studies(runs)[0]
        assert findings.scope(study) and not tables.provenance(study.runs)[0].empty, name
        tables.configurations(study.runs)
        setup_text.data(study.runs, Numbers())
        setup_text.model(study.runs, Numbers())
        reproduction.again(study.runs, folder)


def test_kind_8_each_file_dropped_in_turn_is_said(folder, tmp_path):
    for suffix, said in {".csv": None, ".json": "no JSON", ".npz": "no NPZ"}.items():
        copy = shutil.copytree(folder, tmp_path / suffix)
        (copy / f"DeepLabV2_ce{suffix}").unlink()
        runs, _ = read_folder(copy)
        assert len(runs) == (2 if said else 1)
        assert said is None or said in " ".join(runs[0].missing)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["config"].update(schedule="mine"), r"DeepLabV2_ce\.json: config\.schedule is 'mine', it must be"),
        (lambda r: r["config"].update(seed="x"), r"DeepLabV2_ce\.json: config\.seed is 'x', it must be a whole number"),
        (lambda r: r["config"].update(epochs=0), r"DeepLabV2_ce\.json: config\.epochs is '0', it must be more than 0"),
        (lambda r: r.update(loss="<b>"), r"DeepLabV2_ce\.json: loss is '<b>', it must be a loss"),
        (lambda r: r.update(sessions=["x"]), r"DeepLabV2_ce\.json: sessions: an item is 'x', it must be an object"),
        (lambda r: r.update(recipe="x"), r"DeepLabV2_ce\.json: recipe is 'x', it must be one of"),
        (lambda r: r["final"].update(val_mIoU=65.0), r"DeepLabV2_ce\.csv says .* DeepLabV2_ce\.json 65\.00 %"),
        (lambda r: r["config"].update(epochs=50), r"ends with epoch 3, but .* finished 50"),
    ],
)  # fmt: skip
def test_kind_8_a_record_that_breaks_its_schema_is_set_apart_in_one_line(folder, change, message):
    edit(folder / "DeepLabV2_ce.json", change)
    runs, (line,) = read_folder(folder)
    assert [run.recipe for run in runs] == ["ce_dice"] and re.search(message, as_plain(line)) and "\n" not in line


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"confusion": np.ones((4, 3, 3), int)}, r"the shape of confusion is '\(4, 3, 3\)', it must be \(4, 19, 19\)"),
        ({"confusion": np.full((4, 19, 19), -1)}, r"the least count in confusion is '-1', it must be 0 or more"),
        ({"confusion": np.ones((4, 19, 19)) / 2}, "the type of confusion is 'float64', it must be whole numbers"),
        ({"confusion": np.zeros((4, 19, 19), int)}, "no pixel is counted"),
        ({"confusion": None}, "no array confusion"),
        ({"names": np.array(["a"])}, r"the shape of confusion"),
        ({"boundary_f": np.ones(3)}, r"the shape of boundary_f is '\(3,\)', it must be \(4,\)"),
        ({"names": np.array([{}] * 4)}, "not a readable NPZ file .*allow_pickle=False"),
        ({"confusion": np.ones((4, 19, 19), int)}, r"DeepLabV2_ce\.csv says .* DeepLabV2_ce\.npz 2\.70 %"),
    ],
)  # fmt: skip
def test_kind_8_an_npz_of_another_shape_is_set_apart_in_one_line(folder, arrays, message):
    edit_arrays(folder / "DeepLabV2_ce.npz", **arrays)
    runs, (line,) = read_folder(folder)
    assert [run.recipe for run in runs] == ["ce_dice"] and re.search(message, as_plain(line)) and "\n" not in line


def test_kind_8_a_json_of_many_megabytes_is_not_read(folder):
    path = folder / "DeepLabV2_ce.json"
    with path.open("ab") as file:
        file.truncate(100_000_000)
    assert path.stat().st_size > MAX_JSON
    with pytest.raises(ResultsError, match=r"DeepLabV2_ce\.json: not readable \(100 MB; a run's JSON needs"):
        read_record(path)


def test_kind_8_deeply_nested_json_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ResultsError, match="not readable"):
        read_record(path)


def test_kind_8_a_file_name_is_text(folder):
    for suffix in ("csv", "json", "npz"):
        (folder / f"DeepLabV2_ce.{suffix}").rename(folder / f"DeepLabV2_ce_{{x}} *mark*.{suffix}")
    run = read_run(folder / "DeepLabV2_ce_{x} *mark*.csv")
    assert run.label == "CE" and len(run.arrays["names"]) == 4
    assert as_plain(run.notes[0]) == "its files are called DeepLabV2_ce_{x} *mark*"
    (folder / "DeepLabV2_ce_{x} *mark*.json").unlink()  # without a record, the name is all that there is
    run = read_run(folder / "DeepLabV2_ce_{x} *mark*.csv")
    assert as_plain(run.label) == "CE, {x} *mark*"
    for text in (run.label, *run.notes):
        assert not re.search(r"[{}*]", text)
