"""Files of weights in any of the ways in which people keep them, read without running anything in them."""

import argparse
import codecs
import hashlib
import importlib
import io
import pathlib
import pickletools
import re
import types
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeplab_lib.common.content import ENOUGH, article, kind_of

# Where checkpoints keep the tensors; of a run that averages its weights the average is what is tested and kept.
NESTED = ("average", "state_dict", "model", "model_state_dict")
MULTIARRAY = importlib.import_module("numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray")
# What people's checkpoints hold beside tensors, and what cannot do harm: numbers, arrays, arguments, paths.
HARMLESS: list[Any] = [
    *(np.dtype, np.ndarray, argparse.Namespace, types.SimpleNamespace, pathlib.PurePosixPath, pathlib.PosixPath),
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdg"),
    (MULTIARRAY.scalar, "numpy.core.multiarray.scalar"),
    (MULTIARRAY.scalar, "numpy._core.multiarray.scalar"),
    (MULTIARRAY._reconstruct, "numpy.core.multiarray._reconstruct"),
    (MULTIARRAY._reconstruct, "numpy._core.multiarray._reconstruct"),
    codecs.encode,
]
# Files that are recognised before they are opened: what to do instead.
WAYS = {
    "web page": "log in with a browser and download the file itself",
    "Git LFS pointer": "git lfs pull fetches the weights",
    "HDF5 file (Keras)": "Keras' weights cannot be used here; look for the network's PyTorch weights",
    "NumPy array": "one array is no network; look for the network's PyTorch weights",
    "JSON file": "it describes weights; name the file that holds them",
    **{kind: "unpack it and name the weights file in it" for kind in ("gzip archive", "RAR archive", "7z archive")},
    **{kind: "a picture was named" for kind in ("PNG", "JPEG")},
}


def read(path: Path) -> tuple[Any, str]:
    """What a weights file holds, and its SHA-256 in hex; FileNotFoundError or ValueError in one line.

    Of a file that a run asks for several times and that takes long, it is read once.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    about = path.stat()
    return _read(path, (about.st_size, about.st_mtime_ns, about.st_ino))


def sha256(path: str | Path) -> str:
    """SHA-256 of a weights file, in hex."""
    return read(Path(path))[1]


@lru_cache(maxsize=1)
def _read(path: Path, stamp: tuple[int, int, int]) -> tuple[Any, str]:
    """`read`; stamp: what changes when the file does."""
    data = path.read_bytes()
    return _parse(path, data), hashlib.sha256(data).hexdigest()


def _parse(path: Path, data: bytes) -> Any:
    kind = kind_of(data[:ENOUGH])
    if kind == "safetensors file":
        return _parse_safetensors(path, data)
    if kind in WAYS:
        raise ValueError(f"{path} is {article(kind)}, no PyTorch file: {WAYS[kind]}")
    if kind == "zip archive" and (inside := _other_archive(data)):
        raise ValueError(f"{path} is {inside}")
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        # The reader's errors have no common type; only one of them is not damage but a wish to run code.
        if "GLOBAL" in str(error) or "global" in str(error).partition("\n")[0]:
            name = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise ValueError(
                f"{path} wants to run code when opened ({name[1] if name else 'a class of its own'}), not only to hold "
                "tensors: not loaded; where you trust it, open it once with torch.load(..., weights_only=False) and "
                "save its state_dict() alone by torch.save"
            ) from None
        if kind == "Python pickle" and _is_plain_pickle(data):
            raise ValueError(
                f"{path} is a pickle of another program, no PyTorch file: where you trust it, open it with pickle.load "
                "and save {name: torch.as_tensor(array)} by torch.save"
            ) from None
        raise ValueError(f"{path} ({len(data):,} bytes) is cut short or no PyTorch file; download it again") from None


def _other_archive(data: bytes) -> str | None:
    """What a zip archive is that PyTorch's weights reader cannot open, with the way; None for one it can."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return None
    if any(name.endswith("constants.pkl") for name in names):
        return (
            "a TorchScript program, not weights alone: where you trust it, "
            "torch.save(torch.jit.load(path).state_dict(), new_path) writes the weights"
        )
    if not any(name.endswith("data.pkl") for name in names):
        files = [name for name in names if name.endswith((".pth", ".pt", ".safetensors", ".bin"))]
        inside = some(files) if files else "the weights file in it"
        return f"a zip archive, no PyTorch file: unpack it and name {inside}"
    return None


def _is_plain_pickle(data: bytes) -> bool:
    """Whether the file is one whole pickle, read without running it; PyTorch's old format holds several."""
    stream = io.BytesIO(data)
    try:
        for _ in pickletools.genops(stream):
            pass
        return not stream.read(1)
    except Exception:  # damaged in any way
        return False


def _parse_safetensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load  # comes with timm
    except ImportError:
        raise ValueError(f"{path} needs safetensors to be read: pip install safetensors") from None
    try:
        return load(data)
    except Exception as error:  # the reader's errors have no common type
        raise ValueError(f"{path} is cut short or no safetensors file ({error}); download it again") from None


def named_tensors(payload: object) -> dict[str, torch.Tensor]:
    """The tensors of what a file holds, by their names without the prefixes that wrappers add."""
    state = payload
    while isinstance(state, dict) and not any(map(_is_array, state.values())):
        inner = [state[key] for key in NESTED if isinstance(state.get(key), dict)]
        inner = inner or [value for value in state.values() if isinstance(value, dict) and value]
        if not inner:
            break
        state = inner[0]
    arrays = {key: value for key, value in state.items() if _is_array(value)} if isinstance(state, dict) else {}
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", str(key)): torch.as_tensor(value) for key, value in arrays.items()}


def _is_array(value: object) -> bool:
    return torch.is_tensor(value) or (isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0)


def some(keys: Sequence[str]) -> str:
    """The first few of `keys`, for a message."""
    return ", ".join(keys[:3]) + " ..." * (len(keys) > 3) if keys else "none"
