"""How numbers and lists are put into words, and words into file names."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence


def duration(seconds: float) -> str:
    """Seconds as a reader says them: `50 s`, `12 min`, `3 h 05 min`."""
    if not seconds >= 0:
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def count(number: int) -> str:
    """A small number in words."""
    return _WORDS[number] if number < len(_WORDS) else f"{number:,}"


def plural(number: int, noun: str) -> str:
    """`plural(2, "run")` is "two runs"."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def be(names: Sequence) -> str:
    """The verb of as many subjects."""
    return "is" if len(names) == 1 else "are"


def listing(words: Iterable[str]) -> str:
    """`["a", "b", "c"]` as "a, b and c"; with semicolons where a word has a comma of its own."""
    words = list(words)
    separator = "; " if any(", " in word for word in words) else ", "
    return " and ".join([separator.join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plan_change(
    power: float | None = None, weights: Mapping[str, float] | None = None, freeze: Sequence[str] = ()
) -> str:
    """What changes in the middle of a training: `power 2, weights 0.5/0.5, layer1–4 and bn1 frozen`."""
    parts = [f"power {power:g}"] if power is not None else []
    parts += ["weights " + "/".join(f"{weight:g}" for weight in weights.values())] if weights else []
    layers = ", ".join(freeze or ()).replace("layer1, layer2, layer3, layer4", "layer1–4")
    parts += [f"{listing(layers.split(', '))} frozen"] if layers else []
    return ", ".join(parts)


def slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", text.replace("*", "").replace(" ", "")).strip("_")


def signed(value: float) -> str:
    """A difference as printed: a sign, a minus that is one, and two decimals, three where two would hide the side."""
    value += 0.0  # of a zero with a minus, the one without
    return f"{value:+.{2 if abs(value) >= 0.005 or value == 0 else 3}f}".replace("-", "−")


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """`", did you mean 'x'?"` when one of `valid` is close to `name` or ends with it, else nothing."""
    valid = list(valid)
    ends = [known for known in valid if len(str(name)) > 3 and known.lower().endswith(f"_{name}".lower())]
    close = ends[:1] or difflib.get_close_matches(str(name), valid, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
