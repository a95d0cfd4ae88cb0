"""Makes a bare kernel fit for the notebooks: their first cell calls `prepare`, which does nothing in any other kernel.

Where the kit is not installed, as on Colab, the cell lets pip copy it from the folder above or from its address, alone.
`prepare` installs what the kit needs, and in place of the copy an installation that reads the kit's folder itself: what
is changed there counts, and the other notebooks are at hand. What the platform has is left alone, above all its own
PyTorch. Standard library only, since nothing else can be relied on.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PACKAGE = "deeplab-losses"
# A running kernel has its front end, and the graph of runs is started from a shell, where `make` installs everything.
NOT_NEEDED = ("ipykernel", "jupyterlab", "snakemake")
# What the platform is built around, or the kernel may have loaded already.
KEPT = ("torch", "torchvision", "numpy", "pandas", "pillow", "matplotlib", "ipykernel", "ipywidgets")

# Where Kaggle mounts the data sets that a notebook has been given, and Colab Google Drive.
MOUNTS = (Path("/kaggle/input"), Path("/content/drive/MyDrive"))
DATA_SIGNS = ("leftImg8bit", "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")


def mounted(name: str) -> list[Path]:
    """What the mounts hold under the relative path `name`."""
    return [mount / name for mount in MOUNTS if (mount / name).exists()]


def mounted_data() -> list[Path]:
    """The folders among the mounted ones, down to two levels, that hold Cityscapes or its layout."""
    found = []
    for mount in MOUNTS:
        # On Drive every folder that is listed costs a moment: one level there.
        levels = ("*/", "*/*/") if mount.parts[1:2] == ("kaggle",) else ("*/",)
        folders = [mount, *(folder for level in levels for folder in sorted(mount.glob(level)))]
        found += [folder for folder in folders if any((folder / sign).exists() for sign in DATA_SIGNS)]
    return found


def installed(name: str) -> str | None:
    """Version of a distribution, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def missing(requirements: Iterable[str]) -> list[str]:
    """Those of `requirements` that the notebooks need and of which no version is installed."""
    names = {requirement: re.split(r"[^\w.-]", requirement)[0] for requirement in requirements}
    needed = {r: name for r, name in names.items() if "extra ==" not in r and name not in NOT_NEEDED}
    return [requirement for requirement, name in needed.items() if not installed(name)]


def home() -> Path | None:
    """The kit's folder: the one that this file lies in, or, of pip's copy, that which it was copied from.

    The kit is cloned into the current folder where the copy came from an address. None where pip does not say whence.
    """
    here = Path(__file__).resolve().parents[1]
    if (here / "pyproject.toml").is_file():
        return here
    origin = json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "{}")
    if "vcs_info" in origin:
        clone = Path.cwd() / PACKAGE
        if not clone.exists():
            run(["git", "clone", "--quiet", "--depth", "1", origin["url"], str(clone)], f"git clone {origin['url']}")
        return clone
    return Path(url2pathname(urlsplit(origin["url"]).path)) if "dir_info" in origin else None


def install(root: Path | None) -> None:
    """Install the kit at `root`, as it stands there, and what it lacks; what is in `KEPT` stays at its version."""
    if root:
        print(f"Installing the kit from {root} into {sys.executable}", flush=True)
        pip("--no-deps", "--editable", str(root))
        sys.path.append(str(root))  # an editable install is seen by new kernels only; this one is running
        for name in [name for name in sys.modules if name.partition(".")[0] == "deeplab_lib"]:
            del sys.modules[name]  # the copy's
        importlib.invalidate_caches()
    wanted = missing(metadata.requires(PACKAGE) or ())
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{name}=={installed(name)}\n" for name in KEPT if installed(name)))
        if wanted:
            print("Installing what is missing:", ", ".join(wanted), flush=True)
            pip("--constraint", str(constraints), *wanted)
    importlib.invalidate_caches()
    print("Installed: this kernel need not be restarted", flush=True)


def pip(*arguments: str) -> None:
    """Run `pip install` in this Python, as `run` does."""
    run([sys.executable, "-m", "pip", "install", "--quiet", *arguments], f"pip install {' '.join(arguments)}")


def run(command: list[str], name: str) -> None:
    """Run a command; RuntimeError with its last line when it fails. What it says otherwise would only alarm."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise RuntimeError(f"{name} failed: {reason}")


def mount_drive() -> None:
    """Mount Google Drive at /content/drive; RuntimeError anywhere but on Colab."""
    try:
        from google.colab import drive
    except ImportError:
        raise RuntimeError("drive is True, but this is not Colab; set it to False and out_dir to a folder") from None
    drive.mount("/content/drive")


def prepare(drive: bool = False) -> None:
    """Install the kit if it is not, mount Google Drive if asked to, and name the data that are mounted."""
    if drive:
        mount_drive()
    if not installed(PACKAGE) or missing(metadata.requires(PACKAGE) or ()):
        install(home())
    for folder in mounted_data():
        print(f'Data in Cityscapes\' layout is mounted here: data = "{folder}"', flush=True)
