"""Pictures in files and in archives: what they are, how large, and their pixels; one line for what cannot be read."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from deeplab_lib.common.content import article, kind_of
from deeplab_lib.common.types import Size
from deeplab_lib.data.archives import Member

HEADER = 24  # bytes of a PNG up to its width and height
WHITES = (255, 1023, 4095, 65535)  # of files of 16 bits that hold 8, 10, 12 or 16


def image_size(file: Path | Member) -> Size:
    """`(height, width)` from a picture's header, without decoding it."""
    with _archive_errors(file), file.open("rb") as stream:
        return stream_size(stream, file)


def stream_size(stream: IO[bytes], file: Path | Member) -> Size:
    """`(height, width)` of a PNG or JPEG from its start; `ValueError` says what the `file` is that is neither."""
    head = stream.read(HEADER)
    kind = kind_of(head)
    if kind == "PNG" and len(head) == HEADER:
        width, height = struct.unpack(">II", head[16:HEADER])
        return height, width
    if kind == "JPEG":
        return _jpeg_size(head + stream.read(), file)
    raise ValueError(not_a_picture(file, kind))


def _jpeg_size(content: bytes, file: object) -> Size:
    try:
        width, height = Image.open(io.BytesIO(content)).size
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as an image ({error}); copy or download it again") from None
    return height, width


def not_a_picture(file: Path | Member, kind: str) -> str:
    """One line for a file that should be a PNG or JPEG and is `kind`."""
    if kind in ("PNG", "empty file", "file of zeros", "unknown file"):
        return f"{file} is not a PNG file{' but ' + article(kind) if kind != 'PNG' else ''}; copy or download it again"
    advice = {
        "web page": "a login page was saved in its place: download it again, logged in",
        "Git LFS pointer": "the picture itself is fetched by: git lfs pull",
    }.get(kind, "save it as PNG")
    return f"{file} is not a PNG file but {article(kind)}; {advice}"


def read_bytes(file: Path | Member) -> bytes:
    """What a `Path` or `Member` holds; `ValueError` with its name when an archive cannot give it."""
    with _archive_errors(file), file.open("rb") as stream:
        return stream.read()


@contextmanager
def _archive_errors(file: object) -> Iterator[None]:
    """Turn what an archive cannot give into a `ValueError` that names the file."""
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:  # another compression than deflate; a password
        raise ValueError(f"{file} cannot be read ({error}); unpack the archive, or pack it as a plain zip") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{file} cannot be read ({error}); download the archive again") from None


def read_png(file: Path | Member) -> Image.Image:
    """Decode a picture; `ValueError` with the file's name when it is none, truncated or damaged."""
    return decode_picture(read_bytes(file), file)


def decode_picture(content: bytes, file: Path | Member) -> Image.Image:
    """The picture whose `file` holds `content`; errors as in `read_png`."""
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        kind = kind_of(content[:512])
        if kind not in ("PNG", "JPEG", "empty file", "file of zeros", "unknown file"):
            raise ValueError(not_a_picture(file, kind)) from None
        raise ValueError(f"{file} cannot be read as an image ({error}); copy or download it again") from None
    return image


def read_image(file: Path | Member) -> np.ndarray:
    """uint8 RGB `(H, W, 3)`."""
    return np.asarray(as_rgb(read_png(file), file))


def as_rgb(image: Image.Image, file: Path | Member) -> Image.Image:
    """A Pillow picture in RGB, 16-bit grey brought to 8 bits; `ValueError` when its numbers have no known range.

    Cameras write 10 or 12 bits into files of 16: their largest value tells.
    """
    if image.mode.startswith("I;16"):  # Pillow would cut off at 255: white
        values = np.asarray(image)
        white = next(white for white in WHITES if values.max() <= white)
        image = Image.fromarray((values * (255 / white)).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"{file} holds numbers of no known range (mode {image.mode}); save it with 8 bits a channel")
    return image.convert("RGB")


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """uint8 `(H, W, 3)` to `size` = (height, width), bilinear with antialiasing; the aspect is not kept."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
