"""What a file is, by its content: the first bytes of every kind, and what is none of them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from deeplab_lib.common.content import article, kind_of, what_is


def picture(name):
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, name)
    return buffer.getvalue()


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("a", "b")
    return buffer.getvalue()


def array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "TIFF", "WebP", "BMP", "PDF"])
def test_pictures_as_they_are_written(name):
    assert kind_of(picture(name)[:512]) == name


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty file"),
        (bytes(20), "file of zeros"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML><html>", "web page"),
        (b"  <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b'{"a": 1}', "JSON file"),
        (b"road, car\n", "text file"),
        ("Straße".encode()[:6], "text file"),  # cut within a letter
        (b"\x00\x01\x02\x93 something", "unknown file"),
        (b"\x80\x04\x95", "Python pickle"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file (Keras)"),
    ],
)
def test_other_files(content, kind):
    assert kind_of(content) == kind


def test_files_on_disk_whatever_they_are_called(tmp_path):
    for content, kind in ((archive(), "zip archive"), (array(), "NumPy array"), (picture("PNG"), "PNG")):
        (tmp_path / "a.jpg").write_bytes(content)
        assert what_is(tmp_path / "a.jpg") == kind


@pytest.mark.parametrize(
    ("kind", "words"),
    [("PNG", "a PNG"), ("empty file", "an empty file"), ("HDF5 file (Keras)", "an HDF5 file (Keras)")],
)
def test_articles(kind, words):
    assert article(kind) == words
