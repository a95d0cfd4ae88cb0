"""Types that signatures share."""

import os
from collections.abc import Callable

PathLike = str | os.PathLike[str]
Say = Callable[[str], object]  # what shows a line to the user, such as `print`
Size = tuple[int, int]  # height and width in pixels
