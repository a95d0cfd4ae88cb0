"""Checkpoints and the writing of files: whole or not there, checked when read, never a program."""

import errno
import itertools
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deeplab_lib.common import files, locks
from deeplab_lib.common.files import write_atomic, write_text
from deeplab_lib.study.status import is_locked
from deeplab_lib.training import checkpoint
from deeplab_lib.training.checkpoint import load, save
from deeplab_lib.training.lock import run_lock
from deeplab_lib.training.run_folder import RunFolder

STATE = {
    "weights": {"a": torch.arange(5.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)},
    "epoch": 3,
    "name": "ü",
    "x": None,
}


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path, "DeepLabV2_ce05_l0.25")


@pytest.fixture
def no_pauses(monkeypatch):
    """Make waiting free; returns the pauses that were asked for."""
    asked = []
    monkeypatch.setattr(files.time, "sleep", asked.append)
    return asked


# -- saving and loading ------------------------------------------------------------------------------------------------


def same(a, b):
    return all(torch.equal(a["weights"][k], b["weights"][k]) for k in a["weights"]) and a["epoch"] == b["epoch"]


def test_what_is_saved_is_loaded(run):
    save(run.path(".pt"), STATE)
    assert same(load(run.path(".pt")), STATE)
    assert load(run.path(".pt"))["name"] == "ü" and load(run.path(".pt"))["x"] is None


def test_the_file_is_an_ordinary_torch_file(run):
    save(run.path(".pt"), STATE)
    assert same(torch.load(run.path(".pt"), weights_only=True), STATE)


def test_the_previous_one_is_kept(run):
    for epoch in (1, 2, 3):
        save(run.path(".pt"), STATE | {"epoch": epoch}, keep=run.path(".previous.pt"))
    assert (load(run.path(".pt"))["epoch"], load(run.path(".previous.pt"))["epoch"]) == (3, 2)


def test_the_previous_one_is_kept_where_there_are_no_hard_links(run, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "links are not supported")

    monkeypatch.setattr(checkpoint.os, "link", no_links)
    test_the_previous_one_is_kept(run)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "run.pt"
    save(path, STATE)
    return path, path.read_bytes()


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(sound, place, bit):
    path, data = sound
    changed = bytearray(data)
    changed[int(place * len(data))] ^= 1 << bit
    (path.parent / "flipped.pt").write_bytes(changed)
    with pytest.raises(ValueError, match=r"flipped.pt is damaged: its content does not match its hash"):
        load(path.parent / "flipped.pt")


@given(st.floats(0, 1, exclude_max=True))
def test_any_cut_is_noticed(sound, share):
    path, data = sound
    (path.parent / "cut.pt").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"cut.pt is damaged"):
        load(path.parent / "cut.pt")


def test_a_missing_or_unreadable_file_is_one_line(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(ValueError, match="cannot be read") as raised:
            load(path)
        assert "\n" not in str(raised.value)


class Trojan:
    """Unpickled without care, it would leave a file behind."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_program_in_a_checkpoint_is_refused_and_not_run(run, tmp_path):
    save(run.path(".pt"), {"model": Trojan(str(tmp_path / "owned"))})
    with pytest.raises(ValueError, match="holds more than tensors and plain values; not loaded") as raised:
        load(run.path(".pt"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "owned").exists()


def test_a_sealed_file_that_is_no_archive_is_refused(run):
    for content in (b"", b"junk", b"PK\x03\x04 not quite", b"\x80\x02."):
        seal = checkpoint.SEAL + checkpoint.hashlib.sha256(content).hexdigest().encode()
        run.path(".pt").write_bytes(content + seal)
        with pytest.raises(ValueError, match="not loaded"):
            load(run.path(".pt"))


def test_the_newest_good_one_is_found(run):
    assert run.load() == (None, [])
    save(run.path(".pt"), STATE | {"epoch": 1}, keep=run.path(".previous.pt"))
    save(run.path(".pt"), STATE | {"epoch": 2}, keep=run.path(".previous.pt"))
    state, problems = run.load()
    assert (state["epoch"], problems) == (2, [])
    run.path(".pt").write_bytes(b"")
    state, problems = run.load()
    assert state["epoch"] == 1 and len(problems) == 1 and "is damaged" in problems[0]
    run.path(".previous.pt").write_bytes(b"?")
    state, problems = run.load()
    assert state is None and len(problems) == 2


def test_a_damaged_checkpoint_does_not_push_the_good_one_out(run):
    save(run.path(".pt"), STATE | {"epoch": 1}, keep=run.path(".previous.pt"))
    save(run.path(".pt"), STATE | {"epoch": 2}, keep=run.path(".previous.pt"))
    run.path(".pt").write_bytes(b"")
    run.keep_damaged()
    save(run.path(".pt"), STATE | {"epoch": 3}, keep=run.path(".previous.pt"))
    assert (load(run.path(".pt"))["epoch"], load(run.path(".previous.pt"))["epoch"]) == (3, 1)
    assert run.path(".damaged.pt").exists()


# -- a run's files -----------------------------------------------------------------------------------------------------


def test_moving_aside_deletes_nothing_and_touches_no_other_run(run):
    other = RunFolder(run.folder, run.stem + "_seed1")
    for number in (1, 2):
        for ending in (".csv", ".json", ".pt"):
            run.path(ending).write_text(f"{number}")
        other.path(".csv").write_text("other")
        assert run.move_aside() == f"{run.stem}.old{number}"
        assert not run.path(".csv").exists()
    assert run.move_aside() is None
    assert [RunFolder(run.folder, f"{run.stem}.old{n}").path(".pt").read_text() for n in (1, 2)] == ["1", "2"]
    assert other.path(".csv").read_text() == "other"


def test_leftovers_of_a_killed_process_are_swept_but_no_other_runs(run):
    left = run.folder / f".{run.stem}.previous.pt.4711.tmp"
    others = run.folder / f".{run.stem}_seed1.pt.4711.tmp"
    for path in (left, others):
        path.write_text("half")
    with run_lock(run):
        assert not left.exists() and others.exists()


# -- atomic writing ----------------------------------------------------------------------------------------------------


def failing(times, number, partly=True):
    """A writer that fails `times` times with error `number`, half of its file written, then succeeds."""
    left = [times]

    def write(temporary):
        if left[0]:
            left[0] -= 1
            if partly:
                temporary.write_text("ha")
            raise OSError(number, os.strerror(number), str(temporary))
        temporary.write_text("whole")

    return write


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = write_text(tmp_path / "a.csv", "old")

    def write(temporary):
        temporary.write_text("ne")
        assert path.read_text() == "old"
        temporary.write_text("new")

    write_atomic(path, write)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOENT, errno.EBUSY])
def test_a_mount_that_blinks_is_waited_for(tmp_path, no_pauses, number):
    path = write_atomic(tmp_path / "a.pt", failing(2, number))
    assert path.read_text() == "whole" and os.listdir(tmp_path) == ["a.pt"]
    assert no_pauses == list(files.PAUSES[:2])


def test_patience_ends_with_the_last_error_and_the_old_file(tmp_path, no_pauses):
    path = write_text(tmp_path / "a.pt", "old")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_atomic(path, failing(99, errno.EIO))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.pt"]
    assert no_pauses == list(files.PAUSES)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_waiting_does_not_mend_fails_at_once(tmp_path, no_pauses, number):
    path = write_text(tmp_path / "a.pt", "old")
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomic(path, failing(1, number))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.pt"] and no_pauses == []


def test_a_full_disk_while_the_previous_checkpoint_is_kept_costs_neither(run, monkeypatch):
    save(run.path(".pt"), STATE | {"epoch": 1}, keep=run.path(".previous.pt"))
    save(run.path(".pt"), STATE | {"epoch": 2}, keep=run.path(".previous.pt"))
    monkeypatch.setattr(files, "sync", lambda path: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        save(run.path(".pt"), STATE | {"epoch": 3}, keep=run.path(".previous.pt"))
    assert run.load()[0]["epoch"] == 2


def test_a_folder_that_vanished_is_made_again(tmp_path):
    assert write_text(tmp_path / "gone" / "further" / "a.csv", "text").read_text() == "text"


# -- the lock ----------------------------------------------------------------------------------------------------------


def test_a_second_process_says_who_holds_the_run_and_waits(run):
    said, order = [], []

    def second():
        with run_lock(run, say=said.append):
            order.append("second")

    with run_lock(run):
        waiting = threading.Thread(target=second)
        waiting.start()
        while not said:
            time.sleep(0.01)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert f"{run.stem} is being trained by process {os.getpid()} on" in said[0]


def test_patience_may_be_limited(run, monkeypatch):
    with run_lock(run):
        with pytest.raises(TimeoutError, match=r"is still held by process \d+ .* after 0.05 s; try again later"):
            run_lock(run, patience=0.05, say=str).__enter__()
        monkeypatch.setenv("DEEPLAB_LOCK_SECONDS", "0.01")
        with pytest.raises(TimeoutError, match=r"after 0\.01 s"):
            run_lock(run, say=str).__enter__()
    monkeypatch.setenv("DEEPLAB_LOCK_SECONDS", "a minute")
    with pytest.raises(ValueError, match=r"^\$DEEPLAB_LOCK_SECONDS is 'a minute'; it must be a number of seconds$"):
        run_lock(run, say=str).__enter__()


def hold(folder, stem):
    with run_lock(RunFolder(folder, stem)):
        time.sleep(60)


def test_the_lock_of_a_dead_process_is_taken_over(run):
    holder = multiprocessing.get_context("fork").Process(target=hold, args=(run.folder, run.stem))
    holder.start()
    while not run.path(".holder").exists():
        time.sleep(0.01)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert run.path(".lock").exists() and run.path(".holder").exists()
    said = []
    with run_lock(run, patience=5, say=said.append):
        assert str(os.getpid()) in run.path(".holder").read_text()
    assert said == []


def test_kind_7_without_locks_of_the_file_system_a_run_is_held_by_one_process_all_the_same(run, no_locks):
    with run_lock(run):
        assert run.path(".softlock").exists() and not run.path(".lock").exists()
        with pytest.raises(TimeoutError, match="is still held by"):
            run_lock(run, patience=0.01, say=str).__enter__()
    assert not run.path(".softlock").exists()
    with run_lock(run, patience=0.01):
        pass


def test_kind_7_a_run_killed_on_another_node_is_not_waited_for_for_ever(run, no_locks):
    run.folder.mkdir(parents=True, exist_ok=True)
    run.path(".softlock").write_text("4711\nnode7\n")
    run.path(".holder").write_text("process 4711 on node7 since 2026-01-01 10:00")
    with pytest.raises(TimeoutError, match=r"is held by process 4711 on node7 .* not changed for 30 min") as raised:
        run_lock(run, say=str).__enter__()
    assert str(raised.value).endswith(f"delete {run.path('.softlock')} and run this again")
    assert "\n" not in str(raised.value) and is_locked(run.csv)
    run.path(".softlock").unlink()
    with run_lock(run, say=str):
        pass


def test_kind_7_a_run_that_still_writes_on_another_node_is_waited_for(run, no_locks, monkeypatch):
    run.folder.mkdir(parents=True, exist_ok=True)
    run.path(".softlock").write_text("4711\nnode7\n")
    looks = itertools.count()

    def work(seconds):
        """The other node appends to its table with every look, and ends after ten: 100 minutes."""
        number = next(looks)
        run.csv.write_text("x" * number)
        os.utime(run.csv, ns=(number, number))
        if number == 10:
            run.path(".softlock").unlink()

    monkeypatch.setattr(locks.time, "sleep", work)
    with run_lock(run, say=str):
        assert next(looks) == 11


def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write in .*file.runs .*; give another out_dir") as raised:
        run_lock(RunFolder(tmp_path / "file" / "runs", "x")).__enter__()
    assert "\n" not in str(raised.value)
    assert raised.value._render_traceback_() == [f"ValueError: {raised.value}"], "all that a notebook shows"


def test_a_disk_too_full_to_say_who_holds_a_run_does_not_stop_it(run, monkeypatch):
    monkeypatch.setattr(Path, "write_text", lambda *given: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with run_lock(run):
        assert not run.path(".holder").exists()
