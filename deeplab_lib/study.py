"""Which runs a study consists of, from the settings in `workflow/config.yaml`."""

from .config import Config, check_names
from .losses import did_you_mean
from .recipes import RECIPES

SETTINGS = (
    *("data", "preset", "runs", "report", "recipes", "losses", "seeds", "control", "models", "parameters"),
    *("author", "affiliation", "title"),
)


def plan(settings):
    """`{stem: parameters of train.ipynb}` of every run; ValueError for a setting that does not exist or fit."""
    for name in settings:
        if name not in SETTINGS:
            raise ValueError(f"no setting {name!r}{did_you_mean(name, SETTINGS)}; settings: {', '.join(SETTINGS)}")
    check_names(settings["parameters"])
    runs = {}
    for parameters in combinations(settings):
        given = {name: value for name, value in parameters.items() if value is not None}
        runs[Config(**given).stem] = given
    return runs


def combinations(settings):
    """Parameters of every run: losses x models x seeds, then the control runs."""
    recipes = list(RECIPES) if settings["recipes"] == "all" else settings["recipes"]
    common = {"data": settings["data"], "preset": settings["preset"], "out_dir": settings["runs"]}
    common |= settings["parameters"]
    for seed in settings["seeds"]:
        for model in settings["models"]:
            for loss in (*recipes, *settings["losses"]):
                yield common | {"loss": loss, "seed": seed, "model": model}
        if settings["control"]:
            for loss in RECIPES:
                if loss != "ce":
                    yield common | {"loss": loss, "seed": seed, "schedule": "ce"}


def label(parameters):
    """A short name of a run for progress lines: its loss, and whatever else was asked of it."""
    rest = [f"{name} {value}" for name, value in parameters.items() if name in ("seed", "model", "schedule") and value]
    return ", ".join([parameters["loss"], *rest])


def runs_folder(settings):
    """Folder of the study's runs."""
    common = {"data": settings["data"], "preset": settings["preset"], "out_dir": settings["runs"]}
    return Config(**common).out_dir
