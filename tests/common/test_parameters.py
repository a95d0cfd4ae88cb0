"""The parameters cell of a live kernel: its last form counts, in every way of assigning."""

import pytest

from deeplab_lib.common.parameters import check_parameters


@pytest.mark.parametrize(
    "cell", ["epohcs = 3", "epohcs: int = 3", "lr, epohcs = 3, 4", "lr = epohcs = 3", "[epohcs] = [3]"]
)
def test_kind_7_a_mistyped_parameter_is_refused_however_it_is_assigned_and_mended_in_a_live_kernel(cell):
    kernel = {"In": ["", f"# parameters\n{cell}"]}
    with pytest.raises(ValueError, match="no parameter 'epohcs', did you mean 'epochs'"):
        check_parameters(kernel, ["epochs", "lr"])
    kernel["In"].append("# parameters\n" + cell.replace("epohcs", "epochs"))
    check_parameters(kernel, ["epochs", "lr"])


def test_kind_7_the_cell_that_papermill_adds_hides_no_mistake_in_the_notebooks_own():
    with pytest.raises(ValueError, match="epohcs"):
        check_parameters({"In": ["# parameters\nepohcs = 3", "# Parameters\nlr = 1"]}, ["epochs", "lr"])
