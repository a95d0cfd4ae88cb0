"""Pictures of any format, recognised by their content, as files that paper and page can show."""

import gzip
import io
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import typst
from PIL import Image, ImageOps

SVG = re.compile(
    rb"^(?:\xef\xbb\xbf)?(?:<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\])?\s*>|\s)*<svg[\s>]", re.DOTALL
)
# What an SVG would load: a browser and Typst refuse to, and Typst refuses the whole picture.
SVG_LOADS = re.compile(
    rb"""(<(?:image|feImage|use|script)\b[^>]*?)\s(?:xlink:)?href\s*=\s*(["'])(?!#|data:)([^"']*)\2"""
)
MOVING = {"GIF": "gif", "WEBP": "webp", "PNG": "png"}  # formats that a page shows as they are, moving or not
STILL = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg"}  # those that paper shows too; MPO is a telephone's JPEG


class PictureError(ValueError):
    """Bytes that are no picture, or a damaged one; the message says so in a few words."""


@dataclass(frozen=True)
class Picture:
    """A picture as files: `still` for paper, `moving` for a page; `size` in pixels, None where an SVG has none.

    `remarks` say what is lost: that paper shows one frame of several, or what an SVG would have loaded.
    """

    still: tuple[bytes, str]
    moving: tuple[bytes, str]
    size: tuple[int, int] | None = None
    frames: int = 1
    remarks: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def read_picture(content: bytes) -> Picture:
    """The picture that `content` holds, whatever it is called. Raises PictureError."""
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(100_000_000)
        except (OSError, EOFError) as error:
            raise PictureError("a damaged SVGZ file") from error
    if SVG.match(content[:20_000]):
        return _read_svg(content)
    if not content:
        raise PictureError("an empty file")
    if content[:5] == b"%PDF-":
        raise PictureError("a PDF, which is no picture here: save it as SVG or PNG")
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            return _read_bitmap(content, image)
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"no picture, it begins with {content[:8]!r}") from error
    except Exception as error:  # Pillow's decoders raise errors of ten kinds
        raise PictureError(f"a damaged picture: {' '.join(str(error).split()) or type(error).__name__}") from error


def _read_bitmap(content: bytes, image: Image.Image) -> Picture:
    kind = image.format or ""
    frames = 1 if kind == "MPO" else int(getattr(image, "n_frames", 1))
    image.load()
    plain = image.mode not in ("CMYK", "YCbCr", "LAB")
    unit = "pages" if kind == "TIFF" else "frames"
    remarks = (f"the first of {frames} {unit} is shown",) if frames > 1 else ()
    still = (content, STILL[kind]) if kind in STILL and plain and frames == 1 else (_png(image), "png")
    moving = (content, MOVING[kind]) if kind in MOVING else still
    return Picture(still, moving, image.size, frames, remarks)


def _png(image: Image.Image) -> bytes:
    """The image as an 8-bit PNG that looks as the image does."""
    dpi = image.info.get("dpi")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, np.float64))
        span = values.max() - values.min()
        image = Image.fromarray(np.uint8((values - values.min()) / (span or 1) * 255))
    elif image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **({"dpi": dpi} if dpi and min(dpi) > 10 else {}))
    return buffer.getvalue()


def _read_svg(content: bytes) -> Picture:
    remarks = []
    while load := SVG_LOADS.search(content):
        remarks.append(f"the drawing's {load[3].decode(errors='replace')} is left out, the report loads nothing")
        content = content[: load.start()] + load[1] + content[load.end() :]
    if not re.search(rb"<svg[^>]*\sxmlns\s*=", content):  # as within a page, where it needs none
        content = re.sub(rb"<svg(?=[\s>])", b'<svg xmlns="http://www.w3.org/2000/svg"', content, count=1)
    if b"<foreignObject" in content:
        remarks.append("paper cannot show the HTML within the drawing (foreignObject)")
    text = content.decode("utf-8", errors="replace").replace("\\", "\\\\").replace('"', '\\"')
    try:
        typst.compile(f'#image(bytes("{text}"), format: "svg")'.encode(), ignore_system_fonts=True)
    except typst.TypstError as error:
        raise PictureError(f"a drawing that cannot be set: {' '.join(str(error).split())}") from error
    return Picture((content, "svg"), (content, "svg"), None, 1, tuple(remarks))
