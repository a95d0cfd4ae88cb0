"""The graph round the runs: what it plans, how it shares the machine, and what is left when parts of it are killed."""

import contextlib
import ctypes
import importlib.util
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
import torch
from helpers.graph import ROOT, call, command
from helpers.run_outcome import assert_same, outcome
from helpers.small_city import write_city

from deeplab_lib.common.files import jsonable, write_json
from deeplab_lib.config import Config
from deeplab_lib.study import planning
from deeplab_lib.training import pace
from deeplab_lib.training.loop import fit

HANG = 600  # seconds until a process that does not end is given up
EIGHT = list(planning.RECIPES)
# prctl's PR_CAPBSET_DROP, and the capability that makes root write anywhere
DROP_CAPABILITY, IGNORE_PERMISSIONS = 24, 1


def settings(**given):
    return planning.complete(given)


# -- what is planned -----------------------------------------------------------------------------------------------


def test_by_default_the_eight_runs_of_the_study():
    assert list(planning.plan(settings())) == [recipe.stem for recipe in planning.RECIPES.values()]


def test_every_recipe_and_own_loss_once_a_seed_and_model():
    runs = planning.plan(settings(seeds=[0, 1, 2]))
    assert len(runs) == 24
    assert "DeepLabV2_ce_seed2" in runs
    runs = planning.plan(settings(recipes=["ce"], losses=["0.6*ce + 0.4*dice"], models=[None, "deeplabv3_resnet101"]))
    assert [planning.label(parameters) for parameters in runs.values()] == [
        "ce",
        "0.6*ce + 0.4*dice",
        "ce, model deeplabv3_resnet101",
        "0.6*ce + 0.4*dice, model deeplabv3_resnet101",
    ]


def test_control_trains_all_eight_losses_on_the_schedule_of_ce():
    """Five share that schedule as it is, so the control adds the other three."""
    runs = planning.plan(settings(control=True))
    assert len(runs) == 11
    assert [parameters["loss"] for parameters in list(runs.values())[8:]] == EIGHT[4:7]
    assert all(parameters["schedule"] == "ce" for parameters in list(runs.values())[8:])
    only = planning.plan(settings(recipes=["ce"], control=True))
    assert sorted(Config(**parameters).loss for parameters in only.values()) == sorted(EIGHT)


def test_what_is_left_out_or_null_takes_its_default():
    assert planning.complete({"parameters": None, "losses": None}) == planning.DEFAULTS


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"seeeds": [1]}, "no setting 'seeeds', did you mean 'seeds'"),
        ({"seed": [1]}, "no setting 'seed': a run's own parameter; use seeds"),
        ({"epochs": 3}, "no setting 'epochs': a run's own parameter; use parameters={epochs: 3}"),
        ({"seeds": 3}, "seeds is 3; it must be a list: seeds: [3]"),
        ({"recipes": "ce"}, "recipes is 'ce'; it must be a list: recipes: [ce]"),
        ({"recipes": ["ce_focl"]}, "did you mean 'ce_focal'"),
        ({"recipes": []}, "no run"),
        ({"control": "maybe"}, "control is 'maybe'; it must be true or false"),
        ({"preset": "demmo"}, "did you mean 'demo'"),
        ({"models": ["resnet"]}, "model is 'resnet'"),
        ({"parameters": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"parameters": {"epochs": "many"}}, "epochs is 'many'; it must be a whole number"),
        ({"parameters": {"seed": 1}}, "parameters sets seed; use seeds instead"),
        ({"parameters": {"device": "cuda:1"}}, "set CUDA_VISIBLE_DEVICES=1 instead"),
        ({"parameters": [1]}, "it must name values"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(wrong, told):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as problem:
        planning.plan(settings(**wrong))
    assert told in str(problem.value)


def test_the_graph_shows_no_more_of_a_wrong_setting_than_its_line(tmp_path):
    code, shown = call(tmp_path, "-n", seeds="3")
    assert code == 1
    assert [line for line in shown.splitlines() if not line.startswith(("Using workflow", "Config file"))] == [
        "workflow/config.yaml (or --config): seeds is 3; it must be a list: seeds: [3]"
    ]


def test_the_slurm_profile_asks_for_what_a_run_needs(tmp_path):
    code, shown = call(tmp_path, "-n", "--workflow-profile", "workflow/profiles/slurm", recipes="[ce,ce_focal]")
    assert code == 0, shown
    requests = [line for line in shown.splitlines() if "resources:" in line]
    assert sum("runtime=720, gpu=1, mem_mb=24000" in line for line in requests) == 2
    assert "16 jobs" in shown


def test_a_login_node_plans_what_it_could_not_run_itself(tmp_path):
    """Without its GPUs, two of them a run; on this machine the same settings are refused."""
    for parameters in ("{gpus: 64}", "{device: cuda}"):
        code, shown = call(tmp_path, "-n", "--workflow-profile", "workflow/profiles/slurm", parameters=parameters)
        assert code == 0, shown
        assert "8 runs" in shown and "16 jobs" in shown
    with pytest.raises(ValueError, match="gpus is 64"):
        planning.plan(settings(preset="smoke", parameters={"gpus": 64}))


def test_weights_are_fetched_once_before_the_runs(monkeypatch):
    asked = []
    found = lambda *wish: asked.append(wish) or SimpleNamespace(warning="offline" if wish[0] == "auto" else None)  # noqa: E731
    monkeypatch.setattr("deeplab_lib.models.weights.resolve", found)
    runs = planning.plan(settings(preset="smoke", parameters={"pretrained": "auto"}))
    assert len(runs) == 8 and list(planning.fetch_weights(runs)) == ["deeplabv2_micro: offline"]
    assert asked == [("auto", "deeplabv2_micro")]
    assert list(planning.fetch_weights(planning.plan(settings(preset="smoke")))) == []


def test_weights_that_are_not_there_are_told_and_left_to_the_runs():
    runs = planning.plan(settings(preset="smoke", recipes=["ce"], parameters={"pretrained": "nowhere.pth"}))
    assert ["no such file" in line for line in planning.fetch_weights(runs)] == [True]


# -- sharing a machine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "visible", "gpus", "expected"),
    [
        ("0", None, 1, []),
        ("2", None, 1, ["0", "1"]),
        ("2", "3,5", 1, ["3", "5"]),
        ("4", None, 2, ["0,1", "2,3"]),
        ("3", None, 2, ["0,1"]),
        (None, "0,1", 1, []),  # no GPU that PyTorch could use
    ],
)
def test_a_lane_is_as_many_visible_devices_as_a_run_wants(monkeypatch, count, visible, gpus, expected):
    for name, value in (("DEEPLAB_GPUS", count), ("CUDA_VISIBLE_DEVICES", visible)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert planning.gpu_slots(SimpleNamespace(device="cpu", gpus=gpus)) == expected


@pytest.mark.parametrize(
    ("multiscale", "sizes"), [(False, {(32, 64)}), (True, {(32, 64), (24, 48), (16, 32)})], ids=["plain", "multiscale"]
)
def test_the_time_expected_of_a_study_counts_every_scale_that_is_trained_on(tmp_path, monkeypatch, multiscale, sizes):
    views, seen = pace.training_views, []
    monkeypatch.setattr(pace, "training_views", lambda *how: seen.extend(views(*how)) or views(*how))
    runs = planning.plan(settings(preset="smoke", runs=tmp_path, parameters={"multiscale": multiscale}))
    seconds = planning.expected(runs, tmp_path, at_once=2, threads=1)
    assert seconds > len(runs) * planning.NOTEBOOK_SECONDS / 2
    assert {tuple(images.shape[-2:]) for images in seen} == sizes
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in seen)


def test_a_gpu_is_asked_for_the_time_by_a_process_of_its_own(tmp_path, monkeypatch):
    runs = planning.plan(settings(preset="smoke", runs=tmp_path, recipes=["ce"]))
    monkeypatch.setattr(planning, "Config", lambda **parameters: SimpleNamespace(device="cuda"))  # here, and not there
    monkeypatch.setattr(pace, "pass_seconds", lambda *what: pytest.fail("timed in this process"))
    assert planning.estimate(runs, tmp_path, 1, 1) > planning.NOTEBOOK_SECONDS


def test_no_time_is_told_where_none_can_be_measured(tmp_path, monkeypatch):
    runs = planning.plan(settings(preset="smoke", runs=tmp_path, recipes=["ce"]))
    full = lambda config, model, batch: (_ for _ in ()).throw(torch.OutOfMemoryError())  # noqa: E731
    monkeypatch.setattr(pace, "pass_seconds", full)
    assert planning.estimate(runs, tmp_path, 1, 1) is None


@pytest.mark.parametrize(
    ("parameters", "images"),
    [({}, 20 + 8 / 3), ({"tta": "flip"}, 20 + 8 * 2 / 3), ({"multiscale": True}, 20 + 8 / 3 / 1.8125)],
    ids=["plain", "tta", "multiscale"],
)
def test_validation_is_expected_to_take_as_long_as_its_views(tmp_path, monkeypatch, parameters, images):
    """Of the smoke preset's 20 images trained on and 8 validated: a forward pass is a third of a step."""
    monkeypatch.setattr(pace, "pass_seconds", lambda config, model, batch: len(batch) * 6.0)
    runs = planning.plan(settings(preset="smoke", runs=tmp_path, recipes=["ce"], parameters=parameters))
    assert planning.expected(runs, tmp_path, 1, 1) == pytest.approx(5 * 6 * images + planning.NOTEBOOK_SECONDS)


def test_runs_that_differ_in_their_views_are_timed_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "pass_seconds", lambda config, model, batch: len(batch) * 6.0)
    runs = planning.plan(settings(preset="smoke", runs=tmp_path, recipes=["ce"], losses=["ours_mirrored"]))
    images = 20 + 8 / 3 + 20 + 8 * 2 / 3
    assert planning.expected(runs, tmp_path, 1, 1) == pytest.approx(5 * 6 * images + 2 * planning.NOTEBOOK_SECONDS)


def test_a_batch_larger_than_the_data_is_left_to_the_run_to_refuse(tmp_path):
    runs = planning.plan(settings(preset="smoke", runs=tmp_path, recipes=["ce"], parameters={"batch_size": 64}))
    assert planning.expected(runs, tmp_path, 1, 1) > 0


@pytest.mark.parametrize(
    ("runs", "gpus", "cores", "at_once", "each"),
    [(8, 0, 2, 2, 1), (8, 0, 16, 8, 2), (3, 0, 64, 3, 21), (8, 0, 1, 1, 1), (8, 2, 16, 2, 8), (8, 1, 4, 1, 4)],
)
def test_cores_are_shared_evenly_among_the_runs_at_a_time(monkeypatch, runs, gpus, cores, at_once, each):
    monkeypatch.setenv("DEEPLAB_GPUS", str(gpus))
    monkeypatch.setattr(planning.psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * 2**30))
    config = SimpleNamespace(device="cpu", gpus=1, preset="demo")
    assert planning.side_by_side(runs, config, cores) == (at_once, each)


def test_runs_on_the_cpu_are_no_more_than_the_memory_holds(monkeypatch):
    monkeypatch.setattr(planning.psutil, "virtual_memory", lambda: SimpleNamespace(total=4 * 2**30))
    assert planning.side_by_side(8, SimpleNamespace(device="cpu", gpus=1, preset="demo"), 8) == (3, 2)


def execute_module():
    spec = importlib.util.spec_from_file_location("execute", ROOT / "workflow" / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_finished_run_of_another_preset_is_not_taken_for_the_planned_one(tmp_path):
    settings = {"recipes": ["ce"], "runs": str(tmp_path)}
    (stem,) = planning.plan(planning.complete(settings | {"preset": "smoke"}))
    planning.check({stem: {"loss": "ce", "out_dir": str(tmp_path)}})  # nothing there yet
    identity = jsonable(Config("ce", preset="smoke").result_dict())
    write_json(tmp_path / f"{stem}.json", {"identity": identity})
    (tmp_path / f"{stem}.csv").touch()
    planning.check(planning.plan(planning.complete(settings | {"preset": "smoke"})))
    with pytest.raises(ValueError, match=r"DeepLabV2_ce\.json is of a run that differs in .*epochs: 5 -> 50.*another"):
        planning.check(planning.plan(planning.complete(settings | {"preset": "paper"})))


def test_a_folder_one_level_too_high_is_answered_once_before_any_run_starts(tmp_path):
    """Each of eight runs would say so itself, after it has loaded PyTorch."""
    root = write_city(tmp_path / "data" / "city")
    settings = {"runs": str(tmp_path), "preset": "demo"}
    with pytest.raises(ValueError, match=r"^data: no images in .*data: looked for .*; found one at .*: give .*city$"):
        planning.check(planning.plan(planning.complete(settings | {"data": str(root.parent)})))
    planning.check(planning.plan(planning.complete(settings | {"data": str(root)})))


def test_data_that_are_not_there_are_told_once_and_only_while_they_are_needed(tmp_path):
    planned = planning.plan(
        planning.complete({"recipes": ["ce"], "runs": str(tmp_path), "data": str(tmp_path / "nowhere")})
    )
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        planning.check(planned)
    write_json(tmp_path / f"{next(iter(planned))}.json", {})
    with pytest.raises(
        ValueError, match=r"DeepLabV2_ce\.json is there without DeepLabV2_ce\.csv, its table: copy that"
    ):
        planning.check(planned)
    (tmp_path / f"{next(iter(planned))}.csv").touch()
    planning.check(planned)


@pytest.mark.parametrize(
    ("given", "found"),
    [({"author": ["A", "B"]}, "A; B"), ({"author": 5}, "5"), ({"author": "A {b}"}, "A {b}"), ({}, None)],
)
def test_authors_are_text_however_they_are_given(given, found):
    assert planning.complete(given)["author"] == found


@pytest.mark.parametrize("given", [{"title": ["a"]}, {"report": {"a": 1}}, {"runs": True}])
def test_settings_that_are_no_text_are_refused_before_anything_starts(given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} is .*; it must be text"):
        planning.complete(given)


def test_no_two_runs_hold_one_lane(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    execute, held, seen, mistakes = execute_module(), set(), set(), []

    def work():
        with execute.gpu_slot(["test-a", "test-b"], SimpleNamespace(requested=False)) as devices:
            mistakes.extend(held & {devices})
            held.add(devices)
            seen.add(devices)
            time.sleep(0.1)
            held.remove(devices)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (mistakes, seen) == ([], {"test-a", "test-b"})


def notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def executing(folder, source, *options):
    """Start workflow/execute.py on a notebook of one cell."""
    path = notebook(folder / "cell.ipynb", "number = 0", source)
    words = [sys.executable, "workflow/execute.py", "name", path, folder / "out.ipynb", '{"number": 7}', *options]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


# Like training, it listens while it works and no longer: a kernel that is slow to end is sent another SIGTERM.
SAVES = """
import signal, sys, time

def stop(*about):
    signal.signal(signal.SIGTERM, before)
    print("saved")
    sys.exit("stopped")

before = signal.signal(signal.SIGTERM, stop)
print("working on", number, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_reaches_the_notebook_which_saves(tmp_path, how):
    process = executing(tmp_path, SAVES)
    lines = iter(process.stdout.readline, "")
    assert "[name] working on 7\n" in lines  # before it a kernel may complain of a port that another one took
    process.send_signal(how)
    shown = process.communicate(timeout=HANG)[0]
    assert "[name] saved" in shown
    assert process.returncode == 1
    assert [line for line in shown.splitlines() if not line.startswith("[name] ")] == []


@pytest.mark.parametrize(
    ("slurm", "minutes", "granted"),
    [(None, 10, 480), (600, 1e9, 480), (600, 20, 480), (60, 9, 30), (None, 1e9, 6e10 - 120)],
)
def test_two_minutes_of_the_time_granted_or_half_of_it_are_kept_for_saving(monkeypatch, slurm, minutes, granted):
    module, ends = execute_module(), []
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1000.0, time=lambda: 5e8))
    monkeypatch.setattr(module, "Stop", lambda: None)
    monkeypatch.setattr(module, "supervise", lambda work, stop, end: ends.append(end))
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    if slurm:
        monkeypatch.setenv("SLURM_JOB_END_TIME", f"{5e8 + slurm:.0f}")
    monkeypatch.setattr(sys, "argv", ["execute.py", "name", "cell.ipynb", "out.ipynb", "{}", "--minutes", str(minutes)])
    module.main()
    assert ends == [1000 + granted]


def test_at_the_end_of_the_time_granted_the_notebook_is_asked_to_save_once(monkeypatch, capsys):
    module, asked, times = execute_module(), threading.Event(), []
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(module, "execute", lambda *work: asked.wait() and "stopped")

    class Stop:
        requested = False

        def __call__(self):
            self.requested = True
            times.append("stop")
            asked.set()

    assert module.supervise((), Stop(), end=99.0) == "stopped" and times == ["stop"]
    assert capsys.readouterr().out == "the time granted is nearly over: saving\n"


def test_the_end_of_an_earlier_slurm_job_is_none(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert execute_module().slurm_seconds() == math.inf
    for later, left in ((600, pytest.approx(600, abs=5)), (-600, math.inf)):
        monkeypatch.setenv("SLURM_JOB_END_TIME", f"{time.time() + later:.0f}")
        assert execute_module().slurm_seconds() == left


def test_lanes_are_shared_within_a_slurm_job_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("getpass.getuser", lambda: pytest.fail("a container's user may have no name"))
    gpu_slot, nobody = execute_module().gpu_slot, SimpleNamespace(requested=False)
    with gpu_slot([], nobody) as none:
        assert none is None and not list(tmp_path.iterdir())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with contextlib.ExitStack() as both:
        for job in ("1", "2"):
            monkeypatch.setenv("SLURM_JOB_ID", job)
            assert both.enter_context(gpu_slot(["0"], nobody)) == "0"


def test_a_stop_that_comes_while_papermill_is_loaded_starts_no_notebook(tmp_path):
    work = (notebook(tmp_path / "cell.ipynb", "number = 0", ""), tmp_path / "out.ipynb", {}, True)
    assert execute_module().supervise(work, SimpleNamespace(requested=True), end=time.monotonic() + 60) == "stopped"
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no hang-ups here")
def test_under_nohup_a_hang_up_stops_nothing(tmp_path, monkeypatch):
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: popen(["nohup", *words], **how))
    process = executing(tmp_path, 'import time\nprint("working", flush=True)\ntime.sleep(2)\nprint("to the end")')
    line = process.stdout.readline()
    while "working" not in line:
        line = process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert "[name] to the end" in process.communicate(timeout=HANG)[0] and process.returncode == 0


def test_a_kernel_sees_its_lane_alone_and_a_killed_one_is_told(tmp_path):
    source = (
        "import os, signal, time\nprint(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"
        "time.sleep(1)  # what was printed travels before the kernel dies\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    process = executing(tmp_path, source, "--gpu-slots", "test-c")
    shown = process.communicate(timeout=HANG)[0]
    assert shown.startswith("[name] test-c\n[name] not finished: ")
    assert "out of memory" in shown
    assert str(tmp_path / "out.ipynb") in shown


# -- kills and failures --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(smoke_city, tmp_path_factory):
    """Three runs made without a graph: `{key: config}`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    made = {}
    for key in ("ce", "ce_lovasz_warmup", "ce_focal"):
        made[key] = Config(loss=key, preset="smoke", epochs=12, out_dir=str(folder))
        fit(made[key])
    return made


def epochs_so_far(folder):
    return sum(planning.epochs_done(folder / "runs", path.stem) for path in (folder / "runs").glob("*.csv"))


def part_of_graph(engine, script):
    """The processes under the engine that run `script` themselves, not the shells that started them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = engine.children(recursive=True)
        return [child for child in children if script in " ".join(child.cmdline()[1:4]) and "-c" not in child.cmdline()]
    return []


def disturb(folder, victim, chance, **config):
    """Start the graph and SIGKILL the `victim` (kernel, execute or none), then the engine, at random moments."""
    enough = epochs_so_far(folder) + chance.randint(1, 4)
    engine = psutil.Popen(command(folder, **config), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while engine.poll() is None and epochs_so_far(folder) < enough:
        time.sleep(0.02)
    time.sleep(chance.random())
    script = {"kernel": "ipykernel_launcher", "execute": "execute.py"}.get(victim)
    targets = part_of_graph(engine, script) if script else []
    while script and not targets and engine.poll() is None:  # an orphan of the engine before may have made the epochs
        time.sleep(0.05)
        targets = part_of_graph(engine, script)
    for target in targets:
        target.kill()
    if targets:
        time.sleep(chance.random())
    engine.kill()
    assert engine.wait() == -signal.SIGKILL
    return len(targets)


def assert_undisturbed(folder, undisturbed):
    for config in undisturbed.values():
        again = SimpleNamespace(out_dir=str(folder / "runs"), stem=config.stem)
        assert_same(outcome(again), outcome(config))


THREE = {"recipes": "[ce,ce_lovasz_warmup,ce_focal]", "parameters": "{epochs: 12}"}


def test_engine_jobs_and_kernels_killed_then_the_same_command_finishes_with_the_same_numbers(undisturbed, tmp_path):
    """Orphans of the killed engine are at work still when the next command begins; the locks keep them apart."""
    chance = random.Random(5)
    runs = [str(tmp_path / "runs" / f"{config.stem}.json") for config in undisturbed.values()]
    killed = {victim: disturb(tmp_path, victim, chance, **THREE) for victim in ("kernel", "execute", "none")}
    assert killed["kernel"] and killed["execute"] and not killed["none"]
    code, shown = call(tmp_path, *runs, **THREE)
    assert code == 0, shown
    assert_undisturbed(tmp_path, undisturbed)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(4))
def test_a_report_after_three_random_kills(undisturbed, tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(3):
        disturb(tmp_path, chance.choice(["kernel", "execute", "none"]), chance, **THREE)
    code, shown = call(tmp_path, **THREE)
    assert code == 0, shown
    assert (tmp_path / "report" / "report.pdf").exists()
    assert_undisturbed(tmp_path, undisturbed)


@pytest.fixture(scope="module")
def half_failed(undisturbed, tmp_path_factory):
    """A study of two runs, one of which finds the checkpoint of another run under its name, after three epochs."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "runs").mkdir()
    there, here = (Path(undisturbed[key].out_dir) / undisturbed[key].stem for key in ("ce_focal", "ce"))
    mine = folder / "runs" / here.name
    shutil.copy(f"{there}.pt", f"{mine}.pt")
    Path(f"{mine}.csv").write_text("".join(Path(f"{here}.csv").read_text().splitlines(keepends=True)[:4]))
    return folder, call(folder, recipes="[ce,ce_focal]", parameters="{epochs: 12}")


def test_a_failed_run_stops_no_other_and_is_told_at_the_end(half_failed, undisturbed):
    folder, (code, shown) = half_failed
    assert code == 1
    assert planning.finished(folder / "runs", undisturbed["ce_focal"].stem)
    told = shown[shown.index("[study] ce: ") :].splitlines()
    assert told[0].startswith("[study] ce: stopped after epoch 3 of 12; ValueError: ")
    assert "holds a run that differs in loss: ce_focal -> ce" in told[0]
    assert told[1].endswith(f"{folder}/runs/{undisturbed['ce'].stem}.ipynb")
    assert "make draft" in told[2]
    assert len(told) == 3
    assert "RuleException" not in shown


def test_kind_10_a_study_in_a_folder_of_its_own_is_told_of_its_own_draft(half_failed):
    folder, (_, shown) = half_failed
    (hint,) = (line for line in shown.splitlines() if "reports on what is there" in line)
    assert f"runs={folder}/runs" in hint and f"report={folder}/report" in hint


def test_a_draft_names_what_is_unfinished_with_its_epoch(half_failed):
    folder, _ = half_failed
    code, shown = call(folder, "draft", recipes="[ce,ce_focal]", parameters="{epochs: 12}")
    assert code == 0, shown
    page = (folder / "report" / "draft" / "draft.html").read_text()
    assert "at epoch 3 of 12" in page
    assert "<title>Draft: " in page and "DRAFT · " in page
    assert str(folder) not in page
    assert (folder / "report" / "draft" / "draft.pdf").exists()
    assert not (folder / "report" / "report.html").exists()


def test_costs_that_others_put_beside_those_of_the_study_stay(undisturbed, tmp_path):
    """Rows of further networks, say; the rule runs because the trained network is not among them; dates count not."""
    (tmp_path / "runs").mkdir()
    costs, run = tmp_path / "runs" / "efficiency.json", Path(f"{undisturbed['ce'].stem}.json")
    costs.write_text('{"rows": [{"model": "another", "height": 8, "width": 8, "device": "cpu", "dtype": "float32"}]}')
    for path in (run, run.with_suffix(".csv")):
        shutil.copy(Path(undisturbed["ce"].out_dir) / path, tmp_path / "runs")
        os.utime(tmp_path / "runs" / path, (1e9, 1e9))
    code, shown = call(tmp_path, "--until", "costs", recipes="[ce]", parameters="{epochs: 12}")
    assert code == 0, shown
    models = [row["model"] for row in json.loads(costs.read_text())["rows"]]
    assert "another" in models and "deeplabv2_resnet101" in models


# -- many users ----------------------------------------------------------------------------------------------------


def without_write_permission():
    """For a child process: be bound by permissions even as root."""
    if os.geteuid() == 0:
        drop_from_bounding_set, override_permissions = 24, 1
        ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="drops a privilege of Linux")
def test_two_users_train_at_once_from_a_city_and_a_cache_that_they_may_only_read(smoke_city, own_folders, tmp_path):
    shared = tmp_path / "shared"
    shutil.copytree(own_folders / "data", shared / "data")
    shutil.copytree(own_folders / "cache", shared / "cache")
    before = sorted((path, path.stat().st_mtime_ns) for path in shared.rglob("*"))
    for path in (shared, *shared.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    program = (
        "import sys; from deeplab_lib.config import Config; from deeplab_lib.training.loop import fit\n"
        f"try: open({str(shared / 'cache' / 'mine')!r}, 'w'); sys.exit('this place can be written')\n"
        "except PermissionError: fit(Config(preset='smoke', epochs=1, out_dir=sys.argv[1]))"
    )
    environment = os.environ | {"DEEPLAB_DATA": str(shared / "data"), "DEEPLAB_CACHE": str(shared / "cache")}
    users = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / user)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=without_write_permission,
        )
        for user in ("anna", "ben")
    ]
    for user in users:
        shown = user.communicate(timeout=HANG)[0]
        assert user.returncode == 0, shown
    for path in (shared, *shared.rglob("*")):
        path.chmod(0o755)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in shared.rglob("*"))
    assert all((tmp_path / user / "DeepLabV2_ce_epochs1.json").exists() for user in ("anna", "ben"))
