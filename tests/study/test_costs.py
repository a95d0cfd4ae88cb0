"""What is read of an efficiency.json that somebody handed in."""

import json

import pytest

from deeplab_lib.study.foreign import ResultsError
from deeplab_lib.study.hand_in import read_costs

ROW = {
    "model": "deeplabv2_mini", "height": 128, "width": 256, "device": "cpu", "device_name": "CPU", "threads": 2,
    "parameters": 856_668, "macs": 5.1e8, "flops": 1.02e9,
}  # fmt: skip


@pytest.fixture
def costs(tmp_path):
    """Write rows and read them."""

    def read(*rows):
        path = tmp_path / "efficiency.json"
        path.write_text(json.dumps({"rows": list(rows)}))
        return read_costs(path)

    return read


def test_a_row_without_a_stride_is_the_studys(costs):
    (row,) = costs(ROW)
    assert row == ROW | {"output_stride": 8, "note": "", "latency_ms": None, "other_cores": None}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"macs": "<b>many</b>"}, "row 1: macs is '<b>many</b>', it must be a number"),
        ({"height": 12.5}, "row 1: height is '12.5', it must be a whole number"),
        ({"threads": True}, "row 1: threads is 'True', it must be a whole number"),
        ({"flops": -1.0}, "row 1: flops is '-1.0', it must be a number, 0 or more"),
        ({"latency_ms": {"median": float("nan")}}, "row 1: latency_ms.median is 'nan', it must be a number, 0 or more"),
        ({"latency_ms": 5}, "row 1: latency_ms is '5', it must be"),
        ({"model": None}, "row 1 has no model; remove the file and measure again"),
    ],
)
def test_kind_8_costs_that_break_the_schema_are_refused_in_one_line(costs, changes, complaint):
    with pytest.raises(ResultsError) as refused:
        costs(ROW | changes)
    assert complaint in str(refused.value)
    assert "efficiency.json: row 1" in str(refused.value) and len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("content", ["[]", '{"rows": {}}', "null"])
def test_kind_8_costs_that_are_no_table_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "efficiency.json"
    path.write_text(content)
    with pytest.raises(ResultsError, match="it has no list 'rows'"):
        read_costs(path)
