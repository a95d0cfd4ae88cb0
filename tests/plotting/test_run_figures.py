"""What a notebook shows of one run's configuration: text as it is written, nothing cut."""

import pandas as pd

from deeplab_lib.config import Config
from deeplab_lib.plotting import run_figures


def test_kind_7_a_loss_of_ones_own_keeps_its_asterisks():
    shown = run_figures.about(Config("0.6*ce + 0.4*dice", preset="smoke")).data
    assert shown.startswith("**0.6&#42;ce + 0.4&#42;dice**: `0.6*ce + 0.4*dice`\n\n")
    assert run_figures.about(Config("ce_lovasz", preset="smoke")).data.startswith("**CE + Lovász**: ")


def test_kind_7_no_cell_of_the_configuration_is_cut():
    config = Config(preset="smoke", out_dir="a/long/folder/" + 60 * "x")
    shown = run_figures.whole(run_figures.configuration(config)).data
    assert 60 * "x" in shown and "..." not in shown.replace(", ...", "") and len(shown.split("<tr")) > 30
    assert pd.get_option("display.max_colwidth") == 50, "the reader's own settings stay"


def test_kind_8_a_dollar_in_a_table_opens_no_formula():
    shown = run_figures.whole(pd.DataFrame({"road": [1.0]}, index=["$x$ <b>.jpg"])).data
    assert "tex2jax_ignore" in shown and "$x$ &lt;b&gt;.jpg" in shown
