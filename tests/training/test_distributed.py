"""Several processes compute what one computes: gradients, epochs, evaluations, continuations; and how they end.

Two processes on the CPU talk through gloo. Starting them takes seconds, so all that can share a start does so: see
`everything`.
"""

import csv
import multiprocessing
import os
import pickle
import signal
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deeplab_lib.common.errors import RunStopped, Stop
from deeplab_lib.config import Config
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.losses import make_loss
from deeplab_lib.models import weights
from deeplab_lib.models.registry import make_model
from deeplab_lib.recipes import RECIPES
from deeplab_lib.training import checkpoint, distributed
from deeplab_lib.training.distributed import gather_results, launch, launcher_contained, scatter, share, sync_stop
from deeplab_lib.training.evaluate import evaluate_run
from deeplab_lib.training.loop import fit, identify, silent, train_run
from deeplab_lib.training.run_folder import RunFolder
from deeplab_lib.training.trainer import Trainer

TWO = SimpleNamespace(gpus=2, device="cpu")
TIMINGS = {"Runtime", "images_per_s", "peak_memory_MB"}
# Parameters of one epoch with each loss, which also try micro-batches, a single validation batch, and loader processes.
EPOCHS = {
    "ce": {},
    "focal": {"batch_size": 4, "accumulate": 2},
    "tversky": {"batch_size": 8},
    "dice": {"workers": 1},
    "lovasz": {"batch_size": 4},
}


# -- what the processes are given to do ------------------------------------------------------------------------------


def gradient(expression):
    """Loss and gradient of one batch, in double precision, by however many processes there are."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(4, 5, 6, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 19, (4, 6, 8), generator=generator)
    labels[0, :5] = labels[3, :, 2:4] = 255  # the two halves have unequal numbers of valid pixels
    network = torch.nn.Conv2d(5, 19, 1).double()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double()
    own = share(list(range(4)))
    loss = make_loss(expression)(distributed.gather(network(images[own])), distributed.gather(labels[own]))
    loss.backward()
    distributed.sum_gradients(network)
    return loss.item(), torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def gradients():
    """Loss and gradient of every recipe."""
    return {key: gradient(recipe.loss) for key, recipe in RECIPES.items()}


def parts_of(config):
    """What a `Trainer` is made of, as `fit` prepares it."""
    files, pretrained = RunFolder.of(config), weights.resolve(config.pretrained, config.model)
    data = prepare_data(config, pretrained.normalization)
    return config, files, data, pretrained, identify(config, data, pretrained), silent


def evaluation(parts):
    """Full evaluation of the untrained network."""
    return evaluate_run(Trainer(*parts, Stop()), full=True)


def everything(folder, runs, stop):
    """All that two processes are compared in; each leaves what it found in `folder`."""
    found = {"gradients": gradients(), "evaluations": {name: evaluation(parts) for name, parts in runs.items()}}
    found["dealt"] = gather_results([(batch, distributed.rank()) for batch in scatter([10, 11, 12, 13, 14])], 5)
    asked = Stop()
    asked.requested = "SIGHUP" if distributed.rank() == 1 else None
    found["asked"] = sync_stop(asked).requested
    for parts in runs.values():
        train_run(*parts, stop)
    (folder / f"{distributed.rank()}.pickle").write_bytes(pickle.dumps(found))


def fail_in_second(stop):
    """An error in the second process, while the first waits for it."""
    if distributed.rank() == 1:
        raise KeyError("only in the second")
    distributed.wait()


def die_in_second(stop):
    """The second process is killed, while the first waits for it."""
    if distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.wait()


@dataclass
class StopAt:
    """A `callback` that asks for a stop after the given optimiser step."""

    step: int

    def __call__(self, event, run):
        if event == "step" and run.state.step == self.step:
            run.stop.requested = "SIGTERM"


def stop_everyone(event, run):
    """A `callback` that sends the stop of a scheduler to this process and all it started."""
    if event == "step" and run.state.step == 4:
        for pid in [child.pid for child in multiprocessing.active_children()] + [os.getpid()]:
            os.kill(pid, signal.SIGTERM)


# -- fixtures and what reads results back ----------------------------------------------------------------------------


def runs_in(folder, gpus):
    """Parts of a one-epoch run with each loss, at a rate at which no processor's rounding grows to more than itself."""
    shared = {"preset": "smoke", "device": "cpu", "amp": "off", "bn": "eval", "epochs": 1, "out_dir": str(folder)}
    shared["lr"] = 0.003
    return {name: parts_of(Config(loss=name, gpus=gpus, **shared, **parameters)) for name, parameters in EPOCHS.items()}


@pytest.fixture(scope="module")
def results(smoke_city, tmp_path_factory):
    """`results[gpus]`: the folder with what one and two processes found and wrote."""
    folders = {gpus: tmp_path_factory.mktemp(f"processes{gpus}") for gpus in (1, 2)}
    for gpus, folder in folders.items():
        launch(SimpleNamespace(gpus=gpus, device="cpu"), everything, (folder, runs_in(folder, gpus)), Stop())
    return folders


def found(folder, rank=0):
    return pickle.loads((folder / f"{rank}.pickle").read_bytes())


def assert_same_run(one, other):
    """Two runs' files agree: weights and momentum to 1e-5, the table to 1e-5 of each figure but for timings."""
    states = [checkpoint.load(files.path(".pt")) for files in (one, other)]
    for state in zip(*(state["model"].values() for state in states), strict=True):
        torch.testing.assert_close(*state, rtol=0, atol=1e-5)
    for state in zip(*(state["optimizer"]["state"].values() for state in states), strict=True):
        momentum = [entry["momentum_buffer"] for entry in state]
        torch.testing.assert_close(*momentum, rtol=0, atol=1e-5)
    rows = [list(csv.DictReader(files.path(".csv").open())) for files in (one, other)]
    for row, twin in zip(*rows, strict=True):
        assert row.keys() == twin.keys()
        for name in row.keys() - TIMINGS:
            values = [float(value or "nan") for value in (row[name], twin[name])]
            assert values[0] == pytest.approx(values[1], rel=1e-5, nan_ok=True), name


# -- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_gradient_of_two_processes_is_the_gradient_of_the_whole_batch(results, recipe):
    whole_loss, whole = found(results[1])["gradients"][recipe]
    for rank in (0, 1):
        loss, gradient = found(results[2], rank)["gradients"][recipe]
        assert loss == pytest.approx(whole_loss, rel=1e-6)  # the losses compute in single precision
        torch.testing.assert_close(gradient, whole, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", EPOCHS)
def test_an_epoch_with_two_processes_equals_one(results, name):
    paths = [path for folder in results.values() for path in folder.glob(f"DeepLabV2_{name}_*.csv")]
    one, two = (RunFolder(path.parent, path.stem) for path in paths)
    assert one.folder != two.folder
    assert_same_run(one, two)


@pytest.mark.parametrize("name", EPOCHS)
def test_evaluation_is_the_same_to_the_last_bit_in_every_process(results, name):
    one = found(results[1])["evaluations"][name]
    for rank in (0, 1):
        two = found(results[2], rank)["evaluations"][name]
        assert two.losses == one.losses
        assert two.kept == one.kept == list(range(8))
        for array in ("confusion", "native", "boundary", "predictions"):
            np.testing.assert_array_equal(getattr(two, array), getattr(one, array))


def test_dealt_batches_come_back_in_their_order(results):
    assert found(results[2])["dealt"] == [(10, 0), (11, 1), (12, 0), (13, 1), (14, 0)]
    assert found(results[1])["dealt"] == [(10, 0), (11, 0), (12, 0), (13, 0), (14, 0)]


def test_a_stop_asked_of_one_process_reaches_all(results):
    assert [found(results[2], rank)["asked"] for rank in (0, 1)] == ["SIGHUP", "SIGHUP"]


def test_shares_are_contiguous_in_every_micro_batch(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append((share([0, 1, 2, 3, 4, 5, 6, 7]), share([0, 1, 2, 3, 4, 5, 6, 7], parts=2)))
    assert shares == [([0, 1, 2, 3], [0, 1, 4, 5]), ([4, 5, 6, 7], [2, 3, 6, 7])]


def test_who_runs_short_of_batches_repeats_the_last(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 2)
    assert (scatter([10, 11, 12, 13]), scatter([10]), scatter([10, 11, 12])) == ([12, 13], [10], [12])


# -- continuing and ending -------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_another_number_of_processes(smoke, tmp_path):
    """Two processes to the middle of epoch 1, one into epoch 2, two to the end, where layers freeze: as one alone."""
    parameters = {"loss": "ce_lovasz_warmup", "bn": "eval", "epochs": 3}
    fit(smoke(**parameters, out_dir=str(tmp_path / "undisturbed")))
    for gpus, step in ((2, 4), (1, 15)):
        with pytest.raises(RunStopped, match=f"stopped by SIGTERM at epoch .*, step {step % 10}; the last good state"):
            fit(smoke(**parameters, gpus=gpus), callback=StopAt(step))
    folder = fit(smoke(**parameters, gpus=2))
    assert_same_run(RunFolder(tmp_path / "undisturbed", folder.stem), folder)
    state = checkpoint.load(folder.checkpoint)
    assert [session["gpus"] for session in state["sessions"]] == [2, 1, 2]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [(fail_in_second, KeyError, "only in the second"), (die_in_second, RunStopped, r"killed.*same command continues")],
)
def test_an_end_in_one_process_is_told_and_leaves_nothing_behind(function, error, message):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(error, match=message) as raised:
        launch(TWO, function, (), Stop())
    if error is KeyError:
        assert "in process 1 of 2" in str(raised.value.__cause__) and "fail_in_second" in str(raised.value.__cause__)
    assert [signal.getsignal(number) for number in numbers] == before
    assert not multiprocessing.active_children()


def test_a_scheduler_that_repeats_itself_does_not_end_what_is_saving():
    """The first signal is the launcher's; a third one would make it end all processes at once. A person may insist."""

    class Told(Exception):
        def __init__(self, text, sigval):
            super().__init__(text)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Told, match="got signal 15"), launcher_contained(Told):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGUSR1)
            with pytest.raises(Told, match="got signal 2"):
                signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_sent_to_the_loader_processes_too_still_ends_in_order(smoke):
    config = smoke(workers=1)
    with pytest.raises(RunStopped, match="stopped by SIGTERM at epoch 1, step 4"):
        fit(config, callback=stop_everyone)
    assert checkpoint.load(RunFolder.of(config).path(".pt"))["position"]["step"] == 4


def test_what_cannot_be_handed_over_is_refused():
    with pytest.raises(ValueError, match="gpus=2 hands everything to new processes"):
        launch(TWO, silent, (lambda event, run: None,), Stop())


# -- refused before anything starts ----------------------------------------------------------------------------------


def test_batch_norm_is_never_silently_computed_per_process(smoke):
    with pytest.raises(ValueError, match=r"gpus is 2 on the CPU.*use bn=eval or gpus=1"):
        smoke(gpus=2, bn="train")


def test_batch_norm_that_follows_the_batches_is_synchronised_and_checkpoints_fit_both(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    models = {bn: make_model("deeplabv2_micro", bn=bn) for bn in ("train", "eval")}
    before = {name: value.clone() for name, value in models["train"].state_dict().items()}
    kinds = {}
    for bn, model in models.items():
        modules = distributed.synchronize_batch_norm(model).train().modules()
        kinds[bn] = {type(module) for module in modules if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)}
    assert kinds == {"train": {torch.nn.SyncBatchNorm}, "eval": {torch.nn.BatchNorm2d}}
    after = models["train"].state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for name, p in models["train"].named_parameters() if "bn" in name)
    models["train"].freeze(("layer1",))
    assert not models["train"].layer1[0].bn1.training and models["train"].layer2[0].bn1.training


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"device": "cuda", "gpus": 4, "batch_size": 4}, "gpus is 4, but PyTorch sees 2"),
        ({"device": "cuda:1", "gpus": 2}, "gpus is 2, but device is 'cuda:1'"),
        ({"device": "cuda", "gpus": 2, "batch_size": 3}, "batch_size 3 cannot be split evenly"),
    ],
)
def test_impossible_processes_are_refused(smoke, monkeypatch, parameters, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=message):
        smoke(**parameters)
