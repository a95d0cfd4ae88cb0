"""A progress bar for long work on images."""

import time
from typing import Self

from tqdm import tqdm

from deeplab_lib.common.types import Say


class Progress:
    """A bar in a terminal; elsewhere a line every tenth, and none within five seconds of the last."""

    def __init__(self, total: int, done: int, say: Say) -> None:
        self.bar = tqdm(total=total, initial=done, unit="image", disable=None, leave=False)
        self.total, self.first, self.done, self.say = total, done, done, say
        self.started = self.said = time.monotonic()
        self.tenth = 10 * done // total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def update(self, count: int) -> None:
        self.bar.update(count)
        self.done += count
        now, tenth = time.monotonic(), 10 * self.done // self.total
        if self.bar.disable and tenth > self.tenth and now - self.said > 5 and self.done < self.total:
            rate = (self.done - self.first) / (now - self.started)
            left = (self.total - self.done) / rate
            self.say(f"{self.done:,} of {self.total:,} images, {rate:.0f} images/s, {left:.0f} s left")
            self.tenth, self.said = tenth, now
