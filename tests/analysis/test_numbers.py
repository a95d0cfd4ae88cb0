"""Every number that the report prints: recomputed from the runs' files, and found again in HTML and PDF."""

import json
import re
from pathlib import Path

import papermill
import pytest
from helpers import readability, synthetic_runs
from helpers.recompute import NUMBER, Page, Recomputed, lacking, plain
from pypdf import PdfReader

from deeplab_lib import report
from deeplab_lib.recipes import PRESETS, RECIPES

ROOT = Path(__file__).parents[2]
CONFIGURED = {"tbl-recipes", "tbl-rows", "tbl-shared", "tbl-different"}
CONTROL = [key for key in RECIPES if RECIPES[key].lr != 0.0001]


def rewrite(path, change):
    """Change the record of a run."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def cost(model, size, parameters, macs, median):
    """One row of efficiency.json; without a latency when `median` is None."""
    row = {"model": model, "height": size[0], "width": size[1], "device": "cpu", "device_name": "test processor"}
    row |= {"threads": 1, "parameters": parameters, "macs": macs, "flops": 2 * macs, "peak_memory_MB": 701.5}
    latency = median and {"median": median, "q1": median - 1.2, "q3": median + 1.6, "n": 30}
    return row | {"latency_ms": latency, "note": "" if median else "not timed: an image takes too long"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with runs of every kind, and the report on them: two seeds, the control, another network, a change."""
    folder = tmp_path_factory.mktemp("numbers")
    runs, scale, options = folder / "runs", PRESETS["demo"], {"images": 60, "epochs": 12}
    effects = {"ce_focal": 2.5, "ce_lovasz": 1, "ce_tversky": -2.5}
    synthetic_runs.write_runs(runs, seeds=(0, 1), effects=effects, **options)
    synthetic_runs.write_runs(runs, CONTROL, schedule="ce", random_state=1, **options)
    synthetic_runs.write_runs(runs, ["ce"], suffix="lraspp", effects={"ce": 3}, random_state=2, **options)
    synthetic_runs.write_runs(runs, ["ce"], suffix="ema0.9", random_state=3, **options)
    rewrite(runs / "DeepLabV2_ce_ema0.9.json", lambda record: record["config"].update(ema=0.9))

    def another_network(record):
        record["config"]["model"], record["macs"] = "lraspp", 10_000_000
        record["parameters"]["total"] = 50_000

    rewrite(runs / "DeepLabV2_ce_lraspp.json", another_network)
    small, full = (scale.image_height, scale.image_width), (512, 1024)
    rows = [
        cost(scale.model, small, 210_000, 512_000_000, 12.34),
        cost("lraspp", small, 50_000, 10_000_000, 3.27),
        cost("deeplabv2_resnet101", full, 43_901_068, 374_664_739_584, None),
        cost("lraspp", full, 3_221_538, 2_087_000_000, 88.83),
    ]
    (runs / "efficiency.json").write_text(json.dumps({"rows": rows}))
    executed = folder / "analysis.ipynb"
    parameters = {"runs": str(runs), "report_dir": str(folder)}
    papermill.execute_notebook(
        ROOT / "notebooks/analysis.ipynb", executed, parameters, cwd=ROOT, progress_bar=False, log_output=False
    )
    report.make_report(executed, folder)
    return folder


@pytest.fixture(scope="module")
def numbers(made):
    return json.loads((made / "numbers.json").read_text(encoding="utf-8"))


def test_every_number_has_a_recomputation(numbers):
    assert not [key for key in numbers if not Recomputed.known(key)]


def test_every_number_is_what_the_files_say(made, numbers):
    assert not Recomputed(made / "runs").wrong(numbers)


def test_every_number_is_printed_as_it_is(numbers):
    """To half a unit of the last digit printed."""
    for key, entry in numbers.items():
        if entry["value"] is not None:
            text = plain(entry["text"])
            unit = 10.0 ** -len(text.partition(".")[2])
            assert float(text) == pytest.approx(entry["value"], abs=0.501 * unit), key


@pytest.fixture(scope="module")
def page(made):
    return Page((made / "report.html").read_text(encoding="utf-8"))


def test_every_number_stands_in_the_html(numbers, page):
    assert lacking(numbers, page.text) == []


def test_every_number_stands_in_the_pdf(made, numbers):
    text = "\n".join(found.extract_text() for found in PdfReader(made / "report.pdf").pages)
    assert lacking(numbers, plain(text)) == []


def test_tables_print_no_other_number(made, numbers, page):
    """What a run was configured with may stand there as its record says it; what came out is a number with a key."""
    printed = {plain(entry["text"]) for entry in numbers.values()}
    given = {*map(str, range(1, 9)), *(f"{recipe.lr:g}" for recipe in RECIPES.values())}
    for path in (made / "runs").glob("DeepLab*.json"):
        record = json.loads(path.read_text())
        given |= {*re.findall(NUMBER, json.dumps(record)), f"{record['wall_time_s']:.0f}"}
    others = {}
    for label, cells in page.tables.items():
        known = printed | given if label in CONFIGURED else printed
        values = [plain(cell).strip() for cell in cells]
        others[label] = [value for value in values if re.fullmatch(NUMBER, value) and value not in known]
    assert len(others) == 21 and sum(map(len, page.tables.values())) > 1000
    assert not {label: values for label, values in others.items() if values}


def test_the_report_is_written_in_short_sentences_and_plain_words(made):
    parts = readability.page((made / "report.html").read_text(encoding="utf-8"))
    assert not readability.too_long(parts) and not readability.unclear(parts)


def test_conclusions_print_no_other_number(numbers, page):
    printed = {plain(entry["text"]) for entry in numbers.values()}
    conclusions = page.text[page.text.rindex("Conclusions") : page.text.rindex("Limitations")]
    conclusions = re.sub(r"[\d.]+ $", "", conclusions)  # the number of the section on limitations
    found = re.findall(r"[-+]?\d+\.\d+", conclusions)
    assert found and set(found) <= printed
