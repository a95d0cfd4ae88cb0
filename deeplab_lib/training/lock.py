"""One process at a time trains a run; others wait for it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from deeplab_lib.common.errors import plain
from deeplab_lib.common.locks import held
from deeplab_lib.common.types import Say
from deeplab_lib.training.run_folder import RunFolder


def lock_seconds() -> float:
    """`$DEEPLAB_LOCK_SECONDS`, for which a run waits that another process holds; -1, for ever, where it is not set."""
    wish = os.environ.get("DEEPLAB_LOCK_SECONDS", "-1")
    try:
        return float(wish)
    except ValueError:
        raise plain(ValueError(f"$DEEPLAB_LOCK_SECONDS is {wish!r}; it must be a number of seconds")) from None


@contextmanager
def run_lock(folder: RunFolder, patience: float | None = None, say: Say = print) -> Iterator[None]:
    """Hold the run for this process, as `held` does; a second process waits, saying who holds it.

    `patience`: seconds to wait (None: $DEEPLAB_LOCK_SECONDS, else for ever). Raises TimeoutError as `held` does, and
    ValueError where nothing can be written.
    """
    patience = lock_seconds() if patience is None else patience
    with ExitStack() as stack:
        try:
            folder.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(folder.path(""), folder.stem, "trained", folder.files, patience, say))
        except TimeoutError as error:
            raise plain(error) from None
        except OSError as error:
            problem = f"cannot write in {folder.folder} ({error.strerror}); give another out_dir"
            raise plain(ValueError(problem)) from None
        folder.sweep()
        yield
