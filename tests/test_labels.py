"""The label table is the official one, row by row."""

from cityscapesscripts.helpers import labels as official

from deeplab_lib.labels import CATEGORIES, ID_OF_TRAIN_ID, LABELS, PALETTE, TRAIN_ID_OF_ID


def test_every_row_is_that_of_the_official_table():
    # But for the licence plate: its train id, -1 in the scripts, is void like 255.
    ours = [(label.name, label.id, label.train_id, label.category, label.color) for label in LABELS]
    assert ours == [(row.name, row.id, row.trainId % 256, row.category, row.color) for row in official.labels]
    assert list(CATEGORIES) == [name for name in official.category2labels if name != "void"]


def test_the_lookups_say_the_same():
    for row in official.labels:
        assert TRAIN_ID_OF_ID[row.id % 256] == row.trainId % 256
        if not row.ignoreInEval:
            assert ID_OF_TRAIN_ID[row.trainId] == row.id and tuple(PALETTE[row.trainId]) == row.color
