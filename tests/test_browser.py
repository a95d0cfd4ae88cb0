"""The notebooks where people use them: JupyterLab in a headless Chromium, worked by mouse and keyboard.

The kit is copied, so that Lab may save into it, and Lab is started as `make lab` does. Every test leaves screenshots
in its temporary folder.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from pypdf import PdfReader

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
MINUTE = 60_000  # milliseconds
OUTPUT = ".jp-OutputArea-output"

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: the notebooks are not tried in a browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: the notebooks are not tried in a browser"),
]


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A copy of the project, as a newcomer has it: no runs yet."""
    copy = tmp_path_factory.mktemp("newcomer") / "kit"
    for folder in ("deeplab_lib", "notebooks"):
        unwanted = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    return copy


@pytest.fixture(scope="module")
def environment(kit, own_folders):
    """What Lab, its kernels and nbconvert run under: the copied kit, and settings apart from the user's."""
    own = {f"JUPYTER_{kind}_DIR": kit.parent / kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{kind}_DIR": kit.parent / kind.lower() for kind in ("SETTINGS", "WORKSPACES")}
    news = own["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    own |= {"IPYTHONDIR": kit.parent / "ipython", "PYTHONPATH": kit}
    return os.environ | {name: str(value) for name, value in own.items()}


@pytest.fixture(scope="module")
def lab(kit, environment):
    """A running JupyterLab on the copied kit; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    options = ["--no-browser", f"--port={address.rpartition(':')[2]}", "--IdentityProvider.token=", "--allow-root"]
    command = [sys.executable, "-m", "jupyterlab", *options, "--notebook-dir", "."]
    log = kit.parent / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=kit, env=environment, stdout=out, stderr=out)
    try:
        wait_for(lambda: answers(address + "/api"), 120, f"JupyterLab does not answer: {log}")
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def answers(address):
    try:
        return urllib.request.urlopen(address, timeout=10).status == 200
    except OSError:
        return False


def wait_for(condition, seconds, message):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.1)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium with an empty profile."""
    with sync_api.sync_playwright() as playwright:
        window = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=CHROMIUM,
            args=FLAGS.split(),
            viewport={"width": 1280, "height": 900},
        )
        window.set_default_timeout(MINUTE)
        yield window
        window.close()


class Notebook:
    """A notebook open in Lab, and what a user does with it."""

    def __init__(self, page, address, name, pictures):
        self.page, self.pictures = page, pictures
        page.goto(f"{address}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb")
        page.get_by_text("| Idle").wait_for()

    def menu(self, *names):
        """Choose a menu's item; the last name stands alone, the ones before it open menus."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text=names[0]).click()
        for name in names[1:]:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(name, exact=True).click()

    def cell(self, text):
        """The code cell that holds `text`."""
        return self.page.locator(".jp-CodeCell", has_text=text)

    def write(self, text, into):
        """Type `text` at the end of the cell that holds `into`."""
        self.cell(into).locator(".cm-content").click()
        self.page.keyboard.press("Control+End")
        self.page.keyboard.insert_text(text)

    def finished(self):
        """Wait until no cell is running or about to."""
        prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent)"
        condition = f"() => {{const p = {prompts}; return p[0] != '[ ]:' && !p.includes('[*]:')}}"
        self.page.wait_for_function(condition, timeout=4 * MINUTE)

    def run_all(self):
        self.menu("Run", "Run All Cells")
        self.finished()

    def complaints(self):
        """Errors and standard error of all cells, as shown."""
        kinds = [f"{OUTPUT}[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr")]
        return self.page.locator(", ".join(kinds)).all_inner_texts()

    def look(self, name, at=None):
        """Take a screenshot, with the element `at` in sight."""
        if at:
            at.scroll_into_view_if_needed()
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def save(self):
        with self.page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents" in answer.url):
            self.menu("File", "Save Notebook")

    def close(self):
        self.page.keyboard.press("Escape")
        self.menu("Kernel", "Shut Down Kernel")
        self.page.get_by_text("No Kernel").first.wait_for()
        self.page.close()


@pytest.fixture
def open_notebook(lab, browser, tmp_path):
    """Opens a notebook in Lab, and closes all that were opened."""
    opened = []

    def opener(name):
        opened.append(Notebook(browser.new_page(), lab, name, tmp_path))
        return opened[-1]

    yield opener
    for notebook in opened:
        notebook.look(f"end-{opened.index(notebook)}")
        notebook.close()


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("0*.ipynb")))
def test_a_lesson_runs_in_lab_without_complaint(name, open_notebook):
    lesson = open_notebook(name)
    lesson.run_all()
    assert lesson.complaints() == []
    assert lesson.page.locator(f"{OUTPUT} img").count() >= 5
    for number, picture in enumerate(lesson.page.locator(f"{OUTPUT} img").all()):
        lesson.look(f"{name}-{number}", picture)


def test_a_newcomer_trains_stops_continues_analyses_exports_and_predicts(open_notebook, kit, environment):
    # Train, and watch it.
    train = open_notebook("train")
    train.write('\npreset = "smoke"\nepochs = 40\n', into="# Parameters")
    train.menu("Run", "Run All Cells")
    training = train.cell("callback=Live()")
    bar, figures = training.locator("progress"), training.locator(f"{OUTPUT} img")

    def share():
        return float(bar.get_attribute("value"))

    bar.wait_for(timeout=3 * MINUTE)
    begun = share()
    wait_for(lambda: share() > begun, 60, "the progress bar stands still")
    figures.nth(1).wait_for()
    assert re.search(r"epoch \d+/40, .* images/s, .* left", training.inner_text())
    train.look("training", training)

    # Stop it with the stop button.
    train.page.locator("[data-command='notebook:interrupt-kernel']").first.click()
    train.finished()
    assert 0 < share() < 1
    [said] = train.complaints()
    assert re.fullmatch(
        r"stopped by SIGINT at epoch \d+, step \d+; the last good .*; run it again to continue\s*", said
    )
    train.look("stopped", training)

    # Continue in the same cell.
    stopped = share()
    training.locator(".cm-content").click()
    train.menu("Run", "Run Selected Cell and All Below")
    training.get_by_text(re.compile(r"continues at epoch \d+")).wait_for()
    figures.nth(1).wait_for()
    before = figures.first.get_attribute("src")
    assert share() >= stopped
    train.finished()
    assert train.complaints() == [] and share() == 1
    assert figures.first.get_attribute("src") != before
    train.look("finished", training)
    train.look("result", train.cell("run_figures.class_iou"))

    # Analyse.
    analysis = open_notebook("analysis")
    analysis.run_all()
    assert analysis.complaints() == []
    analysis.look("analysis", analysis.page.locator(f"{OUTPUT} img").first)
    analysis.save()

    # Export what Lab has saved.
    for kind in ("pdf", "html"):
        command = [sys.executable, "-m", "nbconvert", "--to", f"report-{kind}", "notebooks/analysis.ipynb"]
        subprocess.run(command, cwd=kit, env=environment, check=True, capture_output=True)
    assert len(PdfReader(kit / "notebooks" / "analysis.pdf").pages) > 5
    page = (kit / "notebooks" / "analysis.html").read_text(encoding="utf-8")
    assert "<math" in page and "One network, eight losses" in page

    # Predict on a photograph of one's own, and write the validation images' label ids.
    photograph = kit / "photographs" / "my street.jpg"
    photograph.parent.mkdir()
    street = next((Path(os.environ["DEEPLAB_DATA"]) / "toycity").rglob("val/*/*_leftImg8bit.png"))
    Image.open(street).convert("RGB").crop((0, 0, 60, 64)).resize((600, 640)).save(photograph)
    predict = open_notebook("predict")
    predict.write('\nsplit = "val"\n', into="# Parameters")
    predict.run_all()
    assert predict.complaints() == []
    predict.look("predict", predict.page.locator(f"{OUTPUT} img").first)
    assert (kit / "runs" / "predictions" / "toycity" / "DeepLabV2_ce_epochs40" / "my street.jpg_overlay.jpg").exists()
    exported = predict.cell("predict.score_export")
    exported.scroll_into_view_if_needed()
    exported.get_by_text(re.compile(r"mIoU \d+\.\d\d %, .* at the labels' own size")).wait_for()
    predict.look("exported")
    wipe = predict.cell("predict.slider(results)")
    handle, shown = wipe.locator(".noUi-handle"), wipe.locator("img")
    before = shown.get_attribute("src")
    handle.press("ArrowRight")
    wait_for(lambda: shown.get_attribute("src") != before, 60, "the slider moves, the picture does not")
    predict.look("slider", wipe)
