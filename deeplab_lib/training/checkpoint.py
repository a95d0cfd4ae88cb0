"""A checkpoint file: written whole, sealed with its hash, the previous one kept, loaded without running code."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from deeplab_lib.common.files import remove, write_atomic
from deeplab_lib.common.types import PathLike

SEAL = b"sha256:"  # stands, with the digest of all before it, at the very end of a checkpoint file


def save(path: PathLike, state: object, keep: PathLike | None = None) -> None:
    """Write `state` to `path` atomically; what was there becomes `keep`.

    The file is an ordinary `torch.save` archive with its SHA-256 behind it (`torch.load` reads it as it is).
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    seal = SEAL + hashlib.sha256(data).hexdigest().encode()

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(data)
            file.write(seal)
        if keep and Path(path).exists():
            # A hard link, so that at no instant both names are gone; a copy by rename where links are not to be had.
            remove(keep)
            try:
                os.link(path, keep)
            except OSError:
                os.replace(path, keep)

    write_atomic(path, write)


def load(path: PathLike) -> Any:
    """State in a file, on the CPU; ValueError in one line if it is cut, changed, or carries anything but data."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    body, seal = data[: -(len(SEAL) + 64)], data[-(len(SEAL) + 64) :]
    if seal != SEAL + hashlib.sha256(body).hexdigest().encode():
        raise ValueError(f"checkpoint {path} is damaged: its content does not match its hash")
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # the reader's errors have no common type
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"checkpoint {path} holds more than tensors and plain values; not loaded ({first})") from None
