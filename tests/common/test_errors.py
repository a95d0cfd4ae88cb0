"""Stop requests, exhausted memory and full disks: recognised, and told in one useful line."""

import errno
import os
import pickle
import re
import signal
import threading

import numpy as np
import pytest
import torch
import traitlets.config
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from deeplab_lib.analysis.audit import read_logs
from deeplab_lib.common import errors
from deeplab_lib.common.errors import (
    SIGNALS,
    RunStopped,
    Stop,
    StopRequested,
    interruptible,
    is_disk_trouble,
    is_out_of_memory,
    is_out_of_shared_memory,
    memory_advice,
    short_traceback,
)
from deeplab_lib.config import Config, from_notebook
from deeplab_lib.data.convert import convert
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.lessons.teach import streets
from deeplab_lib.models.weights import prepare_weights
from deeplab_lib.study.results import load_runs, read_folder
from deeplab_lib.training.loop import fit


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_for_a_stop_that_the_next_check_obeys(number, monkeypatch):
    monkeypatch.setattr(errors, "ignored", lambda number: False)  # also where the tests themselves run under nohup
    with Stop.listening() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(StopRequested, match=number.name):
            stop.check()


def test_a_second_interrupt_is_obeyed_at_once():
    with Stop.listening() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested == "SIGINT"


def test_a_cluster_may_repeat_itself():
    with Stop.listening() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == "SIGTERM"


def test_handlers_are_put_back_whatever_happens():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), Stop.listening():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no hang-ups here")
def test_a_hang_up_that_was_to_be_outlived_is():
    """`nohup` starts a program with hang-ups ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop.listening() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested == "SIGTERM"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_signals_are_left_alone():
    found = []

    def listen():
        with Stop.listening() as stop:
            stop.check()
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:73] . DefaultCPUAllocator: can't allocate memory"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: not enough memory: you"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of range"), False),
    ],
)
def test_exhausted_memory_is_recognised(error, verdict):
    assert is_out_of_memory(error) is verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (FileNotFoundError(errno.ENOENT, "gone"), True),
        (PermissionError(errno.EACCES, "denied"), True),
        (OSError(errno.EPIPE, "pipe"), False),
        (OSError("no number"), False),
        (ValueError(), False),
    ],
)
def test_disk_trouble_is_recognised(error, verdict):
    assert is_disk_trouble(error) is verdict


def test_a_loader_without_shared_memory_is_recognised():
    bus_error = "DataLoader worker (pid 7) is killed by signal: Bus error. "
    bus_error += "It is possible that dataloader's workers are out of shared memory."
    gone = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    assert not is_out_of_shared_memory(gone)
    gone.__cause__ = RuntimeError(bus_error)
    file = "Caught RuntimeError in DataLoader worker process 0. unable to allocate shared memory(shm) for file </7>"
    assert all(map(is_out_of_shared_memory, (RuntimeError(bus_error), gone, RuntimeError(file))))
    assert not is_out_of_shared_memory(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))
    assert not is_out_of_shared_memory(OSError("out of shared memory"))


def test_advice_names_the_finer_labels_first_when_one_image_is_too_much():
    config = Config(preset="smoke", device="cpu", batch_size=1, bn="eval", label_stride=1)
    assert "label_stride=0" in memory_advice(config)


@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 4), st.sampled_from((32, 64, 512)))
def test_advice_can_be_followed(micro, accumulate, gpus, height):
    """What is advised is accepted, and leaves the batch as it is while it can still be split."""
    parameters = {
        "preset": "smoke",
        "device": "cpu",
        "bn": "eval",
        "gpus": gpus,
        "batch_size": micro * accumulate * gpus,
    }
    config = Config(**parameters, accumulate=accumulate, image_height=height)
    words = memory_advice(config).replace(",", " ").split()
    advised = {k: int(v) for k, _, v in (word.partition("=") for word in words) if v.isdigit()}
    better = Config(**(parameters | {"accumulate": accumulate, "image_height": height} | advised))
    if micro > 1:
        assert better.batch_size == config.batch_size and better.accumulate > accumulate
    else:
        assert better.image_height <= config.image_height


# What a notebook shows of it.


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    """What IPython shows of a statement that fails."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    settings = {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    shell = InteractiveShell(config=traitlets.config.Config(settings))

    def run(statement, **names):
        shell.user_ns.update(names)
        shell.run_cell(statement)
        return capsys.readouterr().out.strip()

    return run


def raises(error):
    raise error


def test_a_stopped_run_is_one_line_in_a_notebook(shown):
    assert shown("raises(RunStopped('saved'))", raises=raises, RunStopped=RunStopped) == "saved"


def test_wrong_input_is_one_line_in_a_notebook(shown):
    said = shown("from_notebook({'loss': 'cee'})", from_notebook=from_notebook)
    assert said.startswith("ValueError: ") and "'cee'" in said and "\n" not in said


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("prepare_data(Config(preset='smoke', data='nowhere'), None)", "nowhere"),
        ("prepare_weights(Config(preset='smoke', pretrained='nowhere.pth'))", "nowhere.pth"),
        ("fit(Config(preset='smoke', data='nowhere'))", "nowhere"),
        ("load_runs('nowhere')", "nowhere: there is no such folder"),
        ("read_folder('nowhere')", "nowhere: there is no such folder"),
        ("read_logs('nowhere')", "no log of the study in nowhere"),
        ("streets('tests')", "tests"),
        ("convert('camvid', 'nowhere', 'out')", "nowhere"),
    ],
)
def test_kind_7_where_data_weights_and_runs_are_prepared_an_error_is_one_line(
    shown, statement, said, smoke_city, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = {"Config": Config, "prepare_data": prepare_data, "prepare_weights": prepare_weights, "fit": fit}
    names |= {"load_runs": load_runs, "read_folder": read_folder, "read_logs": read_logs, "convert": convert}
    names["streets"] = streets
    monkeypatch.setenv("CITYSCAPES_DATASET", str(smoke_city))
    (line,) = [line for line in shown(statement, **names).splitlines() if not line.startswith("drawing")]
    assert said in line and re.match(r"(ValueError|FileNotFoundError|ResultsError): ", line)


def test_kind_7_a_stop_while_something_is_prepared_is_one_line(shown):
    @interruptible("the scenes were drawn: run the cell again")
    def draw():
        raise KeyboardInterrupt

    assert shown("draw()", draw=draw) == "stopped while the scenes were drawn: run the cell again"


def test_kind_7_a_librarys_error_keeps_its_traceback(shown):
    said = shown("reshape()", reshape=short_traceback(lambda: np.zeros(3).reshape(2)))
    assert said.splitlines()[-1].startswith("ValueError: cannot reshape") and "Traceback" in said


def test_a_fault_of_the_kit_keeps_its_traceback(shown):
    said = shown("raises(KeyError('x'))", raises=short_traceback(raises))
    assert said.splitlines()[-1] == "KeyError: 'x'" and "Traceback" in said


def test_wrong_input_is_the_same_error_for_everything_else():
    error = FileNotFoundError("no photograph")
    with pytest.raises(FileNotFoundError) as raised:
        short_traceback(raises)(error)
    assert raised.value is error and str(pickle.loads(pickle.dumps(error))) == "no photograph"
