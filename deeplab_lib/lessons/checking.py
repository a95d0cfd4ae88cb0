"""How an answer to an exercise is judged, in words: right, one of the usual mistakes, or where it first differs."""

import ast
import copy
import inspect
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch

from deeplab_lib.labels import IGNORE_INDEX

UNANSWERED = "Not answered yet. Replace the dots by your code and run this cell again."


class Exercise:
    """A check: call it with the student's function, and it prints the verdict.

    solution: function `_x` of a case, for the exercise `check_x`, that makes the mistakes named in its `made`. cases:
    {name: arguments}. mistakes: {name: what to tell}. praise: what to tell of a right answer. gradient: whether the
    gradient with respect to the first argument must be right too.
    """

    def __init__(
        self,
        solution: Callable[..., Any],
        cases: Mapping[str, tuple[Any, ...]],
        mistakes: Mapping[str, str],
        praise: str,
        gradient: bool = False,
    ) -> None:
        self._solution, self.cases, self.mistakes, self.praise = solution, cases, mistakes, praise
        self.gradient, self.name = gradient, "check" + solution.__name__

    def __call__(self, answer: Callable[..., Any] | None) -> None:
        print(self.judge(answer))

    def case(self, name: str) -> tuple[Any, ...]:
        """The arguments of one case, to try an answer on: `my_dice(*check_dice.case("a batch with void"))`."""
        return copy.deepcopy(self.cases[name])

    def judge(self, answer: Callable[..., Any] | None) -> str:
        """The verdict on the function `answer`, as text that begins with "Right", "Not yet" or "Not answered"."""
        given, arguments = {}, {name: self.case(name) for name in self.cases}
        for name, case in arguments.items():
            try:
                # An absent class is 0/0: its NaN may be right, and NumPy's remark on it would only confuse.
                with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                    given[name] = ... if answer is None else answer(*case)
            except Exception as error:
                return self._stopped(answer, name, error)
            if answer is None or given[name] is ... or (given[name] is None and is_empty(answer)):
                return UNANSWERED
            if given[name] is None:
                return f"Not yet: on {name} your function returns nothing; is `return` missing?"
        wrong = [name for name in given if not same(given[name], self._solution(*self.cases[name]))]
        if not wrong:
            return self._changed(arguments) or self._wrong_gradient(given, arguments) or f"Right. {self.praise}"
        return self._named(given) or self._unnamed(answer, given, wrong)

    def _stopped(self, answer: Callable[..., Any] | None, name: str, error: BaseException) -> str:
        reason = f": {error}".rstrip(".") if str(error) else ""
        stops = f"your function stops{place_of(error, answer)} with {type(error).__name__}{reason}."
        void = " This case holds 255, void: leave its pixels out first." if holds_void(self.cases[name]) else ""
        return f"Not yet: on {name} {stops}{void} {self._try(answer, name)}"

    def _changed(self, arguments: Mapping[str, tuple[Any, ...]]) -> str | None:
        """What to tell of an answer that has changed what it was given, though its result is right; else None."""
        parameters = inspect.signature(self._solution).parameters  # the mistakes stand behind the arguments
        for name, case in arguments.items():
            for parameter, now, before in zip(parameters, case, self.cases[name], strict=False):
                if not _unchanged(numbers_of(now), numbers_of(before)):
                    return (
                        f"Not yet: the result is right, but on {name} your function changes the {parameter} it was "
                        "given, which whoever called it still needs. Work on a copy."
                    )
        return None

    def _wrong_gradient(self, given: Mapping[str, Any], arguments: Mapping[str, tuple[Any, ...]]) -> str | None:
        """What to tell where a value is right and its gradient is not; None where both are, or it is not asked for."""
        for name, value in given.items() if self.gradient else ():
            if not getattr(value, "requires_grad", False):
                return (
                    "Not yet: the values are right, but no gradient flows back from them. "
                    "Stay with torch operations: no .item(), .detach() or numpy."
                )
            case, start = self.case(name), f"Not yet: on {name} the value is right, its gradient is"
            try:
                slope = slope_of(value, arguments[name])
            except RuntimeError as error:  # a graph that the answer has used up
                return f"{start} lost: {error}"
            if slope.isnan().any():
                return f"{start} NaN. A mask hides a log or a root of 0, but not its slope: mask before, not after."
            wanted = slope_of(self._solution(*case), case)
            if (slope - wanted).abs().max() > 0.02 * wanted.abs().max():  # a small number under a logarithm may show
                return f"{start} not: something on the way is detached."
        return None

    def _named(self, given: Mapping[str, Any]) -> str | None:
        """What to tell of the mistake, or the two or three, that explain every value given; None if none does."""
        for made in chain.from_iterable(combinations(self.mistakes, count) for count in (1, 2, 3)):
            if all(same(given[name], self._solution(*case, made=made)) for name, case in self.cases.items()):
                return "Not yet: " + " Also, ".join(self.mistakes[one] for one in made)
        return None

    def _unnamed(self, answer: Callable[..., Any] | None, given: Mapping[str, Any], wrong: Sequence[str]) -> str:
        """Where an answer that makes no known mistake differs first."""
        fine, name = [name for name in given if name not in wrong], wrong[0]
        start = f"right on {', '.join(fine)}, but " if fine else ""
        found = difference(given[name], self._solution(*self.cases[name]))
        return f"Not yet: {start}on {name} {found}. {self._try(answer, name)}"

    def _try(self, answer: Callable[..., Any] | None, name: str) -> str:
        function = getattr(answer, "__name__", "")
        function = function if function.isidentifier() else "your_function"
        return f'Try it: `{function}(*exercises.{self.name}.case("{name}"))`.'


def is_empty(function: Callable) -> bool:
    """Whether a function that returned None has no code yet, but dots, `pass` or a docstring."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, ValueError, SyntaxError):  # where the source is not at hand
        code = getattr(function, "__code__", None)
        return code is not None and len(code.co_code) == len((lambda: None).__code__.co_code)
    return isinstance(definition, ast.FunctionDef) and all(map(_says_nothing, definition.body))


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is `pass`, dots or a text."""
    if not isinstance(statement, ast.Expr):
        return isinstance(statement, ast.Pass)
    value = getattr(statement.value, "value", None)
    return isinstance(statement.value, ast.Constant) and (value is ... or isinstance(value, str))


def place_of(error: BaseException, function: object) -> str:
    """The line of the student's own cell at which an exception arose, as ` in line 3 (`m = p[valid]`)`."""
    file = function.__code__.co_filename if hasattr(function, "__code__") else None
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not own:
        return ""
    return f" in line {own[-1].lineno}" + (f" (`{own[-1].line}`)" if own[-1].line else "")


def holds_void(case: Iterable[Any]) -> bool:
    """Whether a case has an array of labels with void among its arguments."""
    arrays = [np.asarray(x.detach() if torch.is_tensor(x) else x) for x in case]
    return any(array.ndim and array.dtype.kind in "iu" and (array == IGNORE_INDEX).any() for array in arrays)


def slope_of(value: torch.Tensor, case: Sequence[Any]) -> torch.Tensor:
    """Gradient of a result with respect to the case's first argument; 0 where it does not depend on it."""
    (slope,) = torch.autograd.grad(value, case[0], allow_unused=True)
    return torch.zeros_like(case[0]) if slope is None else slope


def numbers_of(value: object) -> np.ndarray | None:
    """A number, a tensor, an array or a list of them as an array of int64 or float64; None for anything else."""
    try:
        if torch.is_tensor(value):
            value = value.detach().to_dense().cpu()
            value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # NumPy has no bfloat16
        elif isinstance(value, list | tuple):
            value = [x if (array := numbers_of(x)) is None else array for x in value]
        array = np.asarray(value)
        return array.astype(np.float64 if array.dtype.kind == "f" else np.int64) if array.dtype.kind in "biuf" else None
    except (TypeError, ValueError, RuntimeError):  # lists of different lengths, tensors without data
        return None


def _unchanged(now: np.ndarray | None, before: np.ndarray | None) -> bool:
    """Whether an argument is what it was; one that is no number is not looked at."""
    if now is None or before is None:
        return now is before
    return np.array_equal(now, before, equal_nan=True)


def alike(value: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where two arrays agree up to rounding, of which whole numbers have none; NaN agrees with NaN."""
    return np.isclose(value, wanted, rtol=1e-12 if wanted.dtype.kind == "i" else 1e-4, atol=1e-9, equal_nan=True)


def same(value: object, wanted: object) -> bool:
    """Whether two numbers or arrays agree in shape and, up to rounding, in value."""
    a, b = numbers_of(value), numbers_of(wanted)
    return a is not None and b is not None and a.shape == b.shape and bool(alike(a, b).all())


def difference(value: object, wanted: object) -> str:
    """How a value differs from the one wanted: in kind or shape, or in the first number that is another."""
    a, b = numbers_of(value), numbers_of(wanted)
    if a is None or b is None or a.shape != b.shape:
        return f"you return {brief(value)}; expected {brief(wanted)}"
    if not a.ndim:
        return f"you return {written(a)}; expected {written(b)}"
    place = tuple(int(i) for i in np.argwhere(~alike(a, b))[0])
    return f"at {list(place)} you have {written(a[place])}, expected {written(b[place])}"


def written(number: Any, digits: int = 6) -> str:
    """A number to `digits` digits; a larger one to twelve, so that whole numbers stand in full."""
    return f"{number:.{digits if abs(number) < 10**digits else 12}g}"


def brief(value: object) -> str:
    """What a value is, in a few words: a number, an array with its shape and beginning, or its type."""
    array = numbers_of(value)
    if isinstance(value, list | tuple) and any(map(torch.is_tensor, value)):
        return f"a {type(value).__name__} of {len(value)} tensors"
    if array is None:
        return f"a {type(value).__name__}"
    if not array.ndim:
        return f"a number, {written(array)}"
    beginning = ", ".join(written(x, 4) for x in array.ravel()[:6])
    return f"{beginning}{', ...' if array.size > 6 else ''} (shape {array.shape})"
