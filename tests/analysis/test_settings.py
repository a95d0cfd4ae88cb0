"""Parameters of analysis.ipynb and predict.ipynb: what cannot be meant is refused in one line, first of all."""

from datetime import date

import pytest

from deeplab_lib.analysis.settings import check_settings
from deeplab_lib.predict import check_settings as check_prediction

AS_THEY_ARE = {"margin": 2.0, "title": "One network, eight losses"}


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ({"margin": "two"}, "margin is 'two'; it must be a number"),
        ({"margin": -1}, "margin is -1; it must lie above 0 and not above 100 points of mIoU"),
        ({"margin": None}, "margin is None; it must be a number"),
        ({"author": 7}, r"author is 7; it must be text \(by papermill: -r author 7\)"),
        ({"runs": ""}, "runs is '', an empty text; name one, or leave the parameter out"),
        ({"date": "3.4.2026"}, "date is '3.4.2026'; it must be a day as YYYY-MM-DD"),
        ({"date": date(2026, 1, 1)}, "date is .*; it must be text"),
        ({"planned": "DeepLabV2_ce"}, "planned is 'DeepLabV2_ce'; it must be a list of runs' names, or None"),
        ({"report_dir": __file__}, "test_settings.py is a file: name a folder as report_dir"),
        ({"In": ["", "# Parameters\nrnus = 'x'"]}, "no parameter 'rnus', did you mean 'runs'"),
    ],
)
def test_kind_8_a_parameter_of_the_analysis_that_cannot_be_meant(parameter, said):
    check_settings(AS_THEY_ARE)
    with pytest.raises(ValueError, match=said) as raised:
        check_settings(AS_THEY_ARE | parameter)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("parameter", "said"),
    [({"run": " "}, "run is ' ', an empty text"), ({"split": 3}, "split is 3; it must be text"),
     ({"shown": "four"}, "shown is 'four'; it must be a whole number, 0 or more"),
     ({"In": ["", "# Parameters\nweights = 'x'"]}, "no parameter 'weights', did you mean 'run'")],
)  # fmt: skip
def test_kind_8_a_parameter_of_the_prediction_that_cannot_be_meant(parameter, said):
    check_prediction({"shown": 4})
    with pytest.raises(ValueError, match=said):
        check_prediction({"shown": 4} | parameter)
