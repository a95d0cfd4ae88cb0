"""What is probably meant by a name that there is not."""

import pytest

from deeplab_lib.common.text import did_you_mean

NETWORKS = ("deeplabv2_resnet101", "deeplabv2_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("deeplabv2_resnet10", "deeplabv2_resnet101"),
        ("resnet50", "deeplabv2_resnet50"),  # by its letters nearer to fcn_resnet101
        ("ResNet50", "deeplabv2_resnet50"),
        ("resnet101", "deeplabv2_resnet101"),
        ("mobilenet_v3_large", "lraspp_mobilenet_v3_large"),
        ("v3", None),
        ("vgg", None),
        (5, None),
    ],
)
def test_the_nearest_name_or_the_one_that_ends_so_is_offered(name, meant):
    assert did_you_mean(name, NETWORKS) == (f", did you mean {meant!r}?" if meant else "")
