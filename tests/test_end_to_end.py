"""The main job at smoke scale: the graph makes eight runs through train.ipynb, the analysis, HTML and PDF."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers.recompute import Page, Recomputed, lacking, plain
from pypdf import PdfReader

from deeplab_lib.recipes import RECIPES

ROOT = Path(__file__).parents[1]


def snakemake(folder, *arguments, check=True, **more):
    """Run the graph at smoke scale with everything it makes under `folder`, and `more` settings."""
    settings = ["preset=smoke", f"runs={folder}/runs", f"report={folder}/report"]
    settings += [f"{name}={value}" for name, value in more.items()]
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", *arguments]
    environment = os.environ | {
        "DEEPLAB_DATA": f"{folder}/data",
        "DEEPLAB_CACHE": f"{folder}/cache",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("CITYSCAPES_DATASET", None)
    done = subprocess.run(
        [*command, "--directory", str(ROOT), "--config", *settings],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if check and done.returncode:
        pytest.fail(f"the graph failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the eight smoke runs and their report."""
    folder = tmp_path_factory.mktemp("study")
    output = snakemake(folder)
    return folder, output


def test_every_run_leaves_its_files(made):
    folder, _ = made
    for recipe in RECIPES.values():
        for ending in (".csv", ".json", ".npz", ".pt", ".best.pt", ".ipynb"):
            assert (folder / "runs" / f"{recipe.stem}{ending}").exists(), recipe.stem + ending
        table = pd.read_csv(folder / "runs" / f"{recipe.stem}.csv")
        assert list(table["epoch"]) == [1, 2, 3, 4, 5]
        summary = json.loads((folder / "runs" / f"{recipe.stem}.json").read_text())
        assert summary["final"]["val_mIoU"] == pytest.approx(table["val_mIoU"].iloc[-1])


def test_csv_has_the_agreed_columns_in_front(made):
    folder, _ = made
    columns = list(pd.read_csv(folder / "runs" / "DeepLabV2_ce.csv").columns)
    classes = [f"class_{i}_{split}" for split in ("train", "val") for i in range(19)]
    agreed = ["epoch", "lr", "train_loss", "val_loss", "train_mIoU", "val_mIoU", *classes, "Runtime"]
    assert columns[: len(agreed)] == agreed


def test_executed_notebooks_show_pictures_and_no_errors(made):
    folder, _ = made
    for path in sorted((folder / "runs").glob("*.ipynb")):
        outputs = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])]
        assert not [o for o in outputs if o["output_type"] == "error"], path.name
        assert [o for o in outputs if "image/png" in o.get("data", {})], path.name


def test_report_is_whole_and_stands_alone(made):
    folder, _ = made
    html = (folder / "report" / "report.html").read_text()
    assert 'src="http' not in html and "url(http" not in html
    assert len(html) < 8e6
    reader = PdfReader(folder / "report" / "report.pdf")
    pages = [page.extract_text() for page in reader.pages]
    assert all("toy city" in page.lower() and "synthetic" in page.lower() for page in pages)
    text = " ".join(" ".join(pages).split())
    for recipe in RECIPES.values():
        assert recipe.title.split(" (")[0] in text


def rests_on_draws(key):
    """Whether a number is an interval's bound, or made from one.

    With eight validation images it depends on the draws whether a rare measure has an interval at all, and with it the
    width of the whole family; tests/analysis/test_numbers.py recomputes the bounds on enough images.
    """
    return re.fullmatch(r".*[._](low|high|reach|(images|seeds)_(seen|any))", key) is not None


def test_every_number_is_what_the_files_say_and_stands_in_html_and_pdf(made):
    folder, _ = made
    numbers = json.loads((folder / "report" / "numbers.json").read_text(encoding="utf-8"))
    recomputable = {key: entry for key, entry in numbers.items() if not rests_on_draws(key)}
    assert len(recomputable) > len(numbers) / 2
    assert not Recomputed(folder / "runs", slack=0.2).wrong(recomputable)
    assert not lacking(numbers, Page((folder / "report" / "report.html").read_text(encoding="utf-8")).text)
    pages = PdfReader(folder / "report" / "report.pdf").pages
    assert not lacking(numbers, plain("\n".join(page.extract_text() for page in pages)))


def records(folder):
    """When the record of each finished run was written."""
    found = [path for path in (folder / "runs").glob("DeepLab*.json") if not path.name.endswith(".config.json")]
    return {path: path.stat().st_mtime_ns for path in found}


def test_second_call_has_nothing_to_do_and_a_loss_and_an_author_more_make_the_report_anew(made):
    folder, _ = made
    before = records(folder)
    assert f"Nothing to be done: {folder}/report/report.html" in snakemake(folder)
    shown = snakemake(folder, author="Ada Lovelace", losses="[0.6*ce + 0.4*dice]")
    assert "9 runs, 1 to finish" in shown and "report.pdf" in shown
    assert "Ada Lovelace" in PdfReader(folder / "report" / "report.pdf").pages[0].extract_text()
    (new,) = set(records(folder)) - set(before)
    page = Page((folder / "report" / "report.html").read_text(encoding="utf-8")).text
    assert "0.6*ce + 0.4*dice" in page and new.stem in (folder / "report" / "numbers.json").read_text(encoding="utf-8")
    assert new.name in json.loads((folder / "report" / "made_of.json").read_text())["files"]
    assert "Nothing to be done" in snakemake(folder, author="Ada Lovelace", losses="[0.6*ce + 0.4*dice]")
    assert before | {new: new.stat().st_mtime_ns} == records(folder)


def test_a_report_that_fails_leaves_the_old_one(made):
    folder, _ = made
    table, report = folder / "runs" / "DeepLabV2_cv07_di03.csv", folder / "report" / "report.pdf"
    pages, twin = report.read_bytes(), table.with_name("DeepLabV2_ce07_di03.csv")
    rows = pd.read_csv(table).assign(Runtime=1.0)  # another training of the run, under the name that it should have had
    rows.to_csv(twin, index=False)
    try:
        shown = snakemake(folder, check=False)
        assert "[report] not finished" in shown and twin.name in shown
    finally:
        twin.unlink()
    assert report.read_bytes() == pages and (folder / "report" / "report.html").exists()
