"""What a file is, recognised by its first bytes and never by its name."""

import re
from typing import IO, Literal, Protocol

ENOUGH = 512  # bytes that tell every kind
SIGNATURES = (
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"II\*\0|MM\0\*", "TIFF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"BM", "BMP"),
    (rb"....ftyp(heic|heix|hevc|mif1|msf1)", "HEIC"),
    (rb"....ftypavif", "AVIF"),
    (rb"....ftyp", "video (MP4)"),
    (rb"\0\0\0\x0cjP  ", "JPEG 2000"),
    (rb"8BPS", "Photoshop picture"),
    (rb"%PDF", "PDF"),
    (rb"PK\x03\x04|PK\x05\x06", "zip archive"),
    (rb"Rar!", "RAR archive"),
    (rb"7z\xbc\xaf\x27\x1c", "7z archive"),
    (rb"\x1f\x8b", "gzip archive"),
    (rb"BZh", "bzip2 archive"),
    (rb"\x89HDF\r\n\x1a\n", "HDF5 file (Keras)"),
    (rb"\x93NUMPY", "NumPy array"),
    (rb"version https://git-lfs", "Git LFS pointer"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|\?xml|!--)", "web page"),
    (rb".{8}\{\s*\"", "safetensors file"),
    (rb"\x80[\x02-\x05]", "Python pickle"),
    (rb"(\xef\xbb\xbf)?\s*[{\[]\s*[\"{\[\d]", "JSON file"),
)


def kind_of(head: bytes) -> str:
    """What begins with the bytes `head`: "PNG", "zip archive", "web page", ...; "empty file", or "unknown file"."""
    if not head:
        return "empty file"
    if not any(head):
        return "file of zeros"
    for pattern, name in SIGNATURES:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return name
    return "text file" if _is_text(head) else "unknown file"


class Readable(Protocol):
    """A file: a `Path`, or one in an archive."""

    def open(self, mode: Literal["rb"], /) -> IO[bytes]: ...


def what_is(file: Readable) -> str:
    """What the file holds, see `kind_of`."""
    with file.open("rb") as stream:
        return kind_of(stream.read(ENOUGH))


def article(kind: str) -> str:
    """`kind` with its article: "a PNG", "an empty file"."""
    vowel = kind[0] in "aeiouAEIO" or kind.startswith(("HDF", "RAR"))
    return f"{'an' if vowel else 'a'} {kind}"


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and _is_text(head[: error.start])
    return not re.search(rb"[\x00-\x08\x0e-\x1a]", head)
