"""What was printed for a terminal, as the text that would stand on its screen in the end."""

import re
import unicodedata
from collections.abc import Callable, Iterable

WIDTH, HEIGHT = 1000, 50  # where a terminal stops a cursor that is sent too far

TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?:\x1b\[|\x9b)(?P<arguments>[0-?]*)[ -/]*(?P<command>[@-~])"
    # Strings for the terminal itself, such as a window's title or a link's address; an open one ends with its line.
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
    r"|(?P<control>[\x00-\x1f\x7f-\x9f])"
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def terminal_text(text: str | Iterable[str]) -> str:
    """The text as a terminal would leave it: sequences are obeyed, colours and links are dropped."""
    text = "".join(text)
    if not CONTROL.search(text):
        return text.rstrip("\n")
    screen = _Screen()
    for token in TOKEN.finditer(text):
        if token["text"]:
            screen.write(token["text"])
        elif token["command"]:
            screen.obey(token["command"], token["arguments"])
        elif token["control"]:
            screen.control(token["control"])
    return screen.text()


class _Screen:
    """Rows of cells, without end below, and a cursor."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0

    def text(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self.rows).rstrip("\n")

    def write(self, text: str) -> None:
        cells = list(text) if text.isascii() else _cells(text)
        line = self._line()
        line[self.column : self.column + len(cells)] = cells
        self.column += len(cells)

    def control(self, character: str) -> None:
        if character in "\n\v\f":
            self.row, self.column = self.row + 1, 0
        elif character == "\r":
            self.column = 0
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character == "\t":
            self.column += 8 - self.column % 8

    def obey(self, command: str, arguments: str) -> None:
        """A control sequence (ECMA-48): what moves the cursor or erases; all others change no text."""
        if command not in COMMANDS or not re.fullmatch(r"[\d;]*", arguments):
            return
        given = [int(number) if number else None for number in arguments[:20].split(";")]
        COMMANDS[command](self, *given[:2])

    def to(self, row: int, column: int) -> None:
        self.row = min(max(row, 0), max(HEIGHT, len(self.rows)) - 1)
        self.column = min(max(column, 0), WIDTH - 1)

    def erase_line(self, part: int | None) -> None:
        line = self._line()
        if part in (1, 2):
            line[: self.column + 1] = [" "] * min(len(line), self.column + 1)
        if part != 1:
            del line[self.column :]

    def erase_screen(self, part: int | None) -> None:
        if part in (1, 2, 3):
            self.rows[: self.row] = [[] for _ in range(self.row)]
        if part in (None, 0, 2, 3):
            del self.rows[self.row + 1 :]
        self.erase_line(2 if part == 3 else part)

    def erase_cells(self, count: int | None) -> None:
        line = self._line()
        end = min(len(line), self.column + (count or 1))
        line[self.column : end] = [" "] * (end - self.column)

    def delete_cells(self, count: int | None) -> None:
        line = self._line()
        del line[self.column : self.column + (count or 1)]

    def _line(self) -> list[str]:
        """The cursor's row, filled up to the cursor."""
        self.rows.extend([] for _ in range(self.row + 1 - len(self.rows)))
        line = self.rows[self.row]
        line.extend(" " * (self.column - len(line)))
        return line


Command = Callable[..., None]
COMMANDS: dict[str, Command] = {
    "A": lambda screen, n=None, *_: screen.to(screen.row - (n or 1), screen.column),
    "B": lambda screen, n=None, *_: screen.to(screen.row + (n or 1), screen.column),
    "C": lambda screen, n=None, *_: screen.to(screen.row, screen.column + (n or 1)),
    "D": lambda screen, n=None, *_: screen.to(screen.row, screen.column - (n or 1)),
    "E": lambda screen, n=None, *_: screen.to(screen.row + (n or 1), 0),
    "F": lambda screen, n=None, *_: screen.to(screen.row - (n or 1), 0),
    "G": lambda screen, n=None, *_: screen.to(screen.row, (n or 1) - 1),
    "H": lambda screen, row=None, column=None, *_: screen.to((row or 1) - 1, (column or 1) - 1),
    "f": lambda screen, row=None, column=None, *_: screen.to((row or 1) - 1, (column or 1) - 1),
    "d": lambda screen, n=None, *_: screen.to((n or 1) - 1, screen.column),
    "J": lambda screen, part=None, *_: screen.erase_screen(part),
    "K": lambda screen, part=None, *_: screen.erase_line(part),
    "X": lambda screen, n=None, *_: screen.erase_cells(n),
    "P": lambda screen, n=None, *_: screen.delete_cells(n),
}


def _cells(text: str) -> list[str]:
    """One item for each column: a wide character takes two, a combining one none of its own."""
    cells: list[str] = []
    for character in text:
        if cells and (unicodedata.combining(character) or character in "\u200d\ufe0f"):
            cells[-1] += character
        else:
            cells.append(character)
            if unicodedata.east_asian_width(character) in "WF":
                cells.append("")
    return cells
