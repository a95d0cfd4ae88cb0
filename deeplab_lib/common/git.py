"""What git knows of a project. Standard library only: `make lessons` runs where nothing is installed."""

import subprocess

from deeplab_lib.common.types import PathLike

NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")  # a commit that nobody sees needs an author


def git(*words: str, cwd: PathLike) -> str:
    """What git prints; ValueError, in one line, with what it complains of."""
    try:
        done = subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError("git is not installed") from None
    if done.returncode:
        complaint = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise ValueError(f"git {' '.join(words)} in {cwd}: {complaint}")
    return done.stdout.strip()


def working_tree(cwd: PathLike) -> str:
    """A commit of the project at `cwd` as it stands, with what is changed in known files and not committed."""
    return git(*NOBODY, "stash", "create", cwd=cwd) or "HEAD"
