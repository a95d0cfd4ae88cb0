"""Which of timm's architectures DeepLabV2 stands on, and where their cells look: `python -m benchmarks.timm_sweep`.

One line a network: what its sides must be a multiple of and by how many pixels its grid is moved, or why it is
refused. `--stride 16` asks for the wider grid, `--only resnet*` for some of the names. With `--accept` no network is
filled and measured, which takes less time.
"""

import argparse
from collections import Counter
from fnmatch import fnmatch

from deeplab_lib.models.timm_backbones import backbone, library, shift_of


def verdict(name: str, stride: int, accept_only: bool) -> str:
    """What there is to tell of timm's network `name` at an output stride."""
    try:
        multiple = backbone(name, stride).multiple
        return f"multiple {multiple}" + ("" if accept_only else f", moved by {shift_of(name, stride)}")
    except ValueError as error:
        return f"refused: {error}"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timm_sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--stride", type=int, default=8, choices=(8, 16), help="output stride")
    parser.add_argument("--only", default="*", help="names to try, with * for any text")
    parser.add_argument("--accept", action="store_true", help="do not measure where the cells look")
    given = parser.parse_args(arguments)
    counts: Counter = Counter()
    for name in library().list_models():
        if fnmatch(name, given.only):
            told = verdict(name, given.stride, given.accept)
            counts["refused" if told.startswith("refused") else "accepted"] += 1
            print(f"{name:40} {told}", flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main()
