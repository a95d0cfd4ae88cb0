"""The first day on a GPU: the whole script at toy size on the CPU, and what it says when a number is wrong."""

import json

import pytest
import torch

from deeplab_lib import toycity
from deeplab_lib.study import gpu_check
from deeplab_lib.study.gpu_check import Check

SMALL = ["--device", "cpu", "--size", "64x128", "--model", "deeplabv2_micro", "--minutes", "0.1"]


@pytest.fixture(scope="module", autouse=True)
def few_scenes():
    """What takes 25 steps an epoch on a GPU takes 4 here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_check, "SCENES", 12)
        patch.setattr(gpu_check, "VALIDATED", 2)
        yield


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """`(exit status, the JSON)` of the whole script on the CPU, with the least of networks."""
    out = tmp_path_factory.mktemp("gpu-check") / "sent.json"
    status = gpu_check.main([*SMALL, "--out", str(out)])
    return status, json.loads(out.read_text(encoding="utf-8"))


def verdicts(content):
    return {check["name"]: check["verdict"] for check in content["checks"]}


def test_the_whole_script_runs_on_a_cpu_and_finds_nothing_wrong(checked):
    status, content = checked
    assert status == 0 and "MISSED" not in verdicts(content).values()
    assert content["about"]["device"] == "cpu" and torch.__version__.startswith(content["about"]["versions"]["torch"])
    assert content["about"]["size"] == [64, 128]


def test_numbers_runs_speed_and_memory_are_all_there(checked):
    found = verdicts(checked[1])
    assert found["float32 against the CPU: logits"] == "reached"
    assert found["bf16 against float32: gradient"] == "reached"
    assert found["deterministic=True, twice: rows that differ"] == "reached"
    assert found["killed and continued: rows that differ"] == "reached"
    assert found["recipe ce_lovasz_warmup: training loss, last epoch"] == "reached"
    speeds = {check["name"]: check["value"] for check in checked[1]["checks"] if check["unit"] == "images/s"}
    names = ("training step, batch 3", "inference, batch 3")
    assert all(speeds[f"float32: {name}"] > 0 for name in names) and speeds["plain float32: training step, batch 3"] > 0
    assert "about" in checked[1]["result"][-1] and checked[1]["result"][-1].endswith("h here")


def test_what_is_left_out_says_why(checked):
    found = verdicts(checked[1])
    assert found["recipe ce: training loss, last epoch"] == "skipped: the time was used up"
    assert found["two GPUs against one: training loss"].startswith("skipped: ")
    assert found["fp16 against float32"] == "skipped: a CPU takes minutes for its gradient"


def test_without_a_gpu_it_says_so_in_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "sent.json")]) == 2
    assert capsys.readouterr().out.count("\n") == 1 and not (tmp_path / "sent.json").exists()


def test_a_wrong_number_is_missed_a_part_that_fails_costs_itself_alone_and_the_exit_status_says_so(
    monkeypatch, tmp_path, capsys
):
    def wrong(setting):
        return gpu_check.compared("a", {"logits": torch.ones(3)}, {"logits": torch.full((3,), 1.1)}, bounds)

    def check_that_fails(setting):
        yield Check("before")
        raise RuntimeError("CUDA error: an illegal\nmemory access")

    bounds, sent = {"logits": 0.01, "loss": 0.01}, tmp_path / "sent.json"
    for parts in ((wrong,), (check_that_fails, lambda setting: iter([Check("after")]))):
        monkeypatch.setattr(gpu_check, "PARTS", parts)
        assert gpu_check.main([*SMALL, "--out", str(sent)]) == 1
        assert capsys.readouterr().out.count("MISSED") == 1
    checks = json.loads(sent.read_text())["checks"]
    assert [check["name"] for check in checks] == ["before", "check that fails", "after"]
    assert checks[1]["remark"] == "CUDA error: an illegal memory access"


def test_a_run_continues_on_another_device_with_its_first_epoch_untouched(tmp_path):
    city = toycity.write(tmp_path / "city", gpu_check.SCENES, gpu_check.VALIDATED, size=(64, 128))
    setting = gpu_check.Setting("cpu", (64, 128), "deeplabv2_micro", city, 0.0, 0.1)
    check = gpu_check.moved(setting, "cpu", "cpu")  # the way is the same where the device is
    assert check.right and check.value == gpu_check.EPOCHS


@pytest.mark.parametrize(
    ("found", "wanted", "error"),
    [([3.0, 4.0], [3.0, 4.0], 0.0), ([3.0, 4.5], [3.0, 4.0], 0.1), ([3.0, float("nan")], [3.0, 4.0], float("inf"))],
)
def test_errors_are_relative_to_the_norm(found, wanted, error):
    assert gpu_check.relative_error(torch.tensor(found), torch.tensor(wanted)) == pytest.approx(error)


@pytest.mark.parametrize("text", ["64", "64x", "x64", "axb"])
def test_a_size_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        gpu_check.main(["--device", "cpu", "--size", text])
    assert "is no size; write height x width, such as 512x1024" in capsys.readouterr().err
