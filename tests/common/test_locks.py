"""One process at a time, also where the file system has no locks: for caches and toy cities as for runs."""

import itertools
import os
from pathlib import Path

import pytest
from helpers.small_city import write_city

from deeplab_lib import toycity
from deeplab_lib.common import locks
from deeplab_lib.common.locks import held
from deeplab_lib.data.cache import cached

SIZE = (16, 32)


def fill_cache(folder):
    """A call that makes a cache below `folder`, and the cache, which is what its lock is named after."""
    city = write_city(folder / "city", {"val": 2})
    made = cached(city, "val", SIZE, folder=folder / "probe").folder.name
    return lambda: cached(city, "val", SIZE, folder=folder / "cache"), folder / "cache" / made


def draw_city(folder):
    """The same of a toy city."""
    return lambda: toycity.write(folder / "city", 1, 1, size=SIZE), folder / ".city"


def add_coarse(folder):
    """The same of a toy city's coarse labels."""
    toycity.write(folder / "city", 1, 1, size=SIZE)
    return lambda: toycity.write_coarse(folder / "city", 1), folder / ".city"


each_thing = pytest.mark.parametrize("thing", [fill_cache, draw_city, add_coarse])


@each_thing
def test_kind_7_what_was_killed_on_another_node_is_not_waited_for_for_ever(thing, tmp_path, request, capsys):
    make, place = thing(tmp_path)
    request.getfixturevalue("no_locks")  # from here on
    place.parent.mkdir(exist_ok=True)
    soft = Path(f"{place}.softlock")
    soft.write_text("4711\nnode7\n")
    Path(f"{place}.holder").write_text("process 4711 on node7 since 2026-01-01 10:00")
    with pytest.raises(TimeoutError, match=r"is held by process 4711 on node7 .* not changed for 30 min") as raised:
        make()
    assert str(raised.value).endswith(f"delete {soft} and run this again") and "\n" not in str(raised.value)
    assert "by process 4711 on node7 since 2026-01-01 10:00; waiting for it" in capsys.readouterr().out
    soft.unlink()
    assert make()
    assert not soft.exists() and not Path(f"{place}.holder").exists()


def test_a_holder_that_still_writes_is_waited_for(tmp_path, no_locks, monkeypatch):
    file, soft = tmp_path / "growing", tmp_path / "x.softlock"
    soft.write_text("4711\nnode7\n")
    looks = itertools.count()

    def work(seconds):
        """The other node writes with every look, and ends after ten: 100 minutes."""
        number = next(looks)
        file.touch()
        os.utime(file, ns=(number, number))
        if number == 10:
            soft.unlink()

    monkeypatch.setattr(locks.time, "sleep", work)
    with held(tmp_path / "x", "the cache x", "filled", lambda: [file, tmp_path / "gone"], say=str):
        assert next(looks) == 11
