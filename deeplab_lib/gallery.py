"""The report's figures on display: each signed with what it shows, and what cannot be drawn named instead."""

from IPython.display import Markdown, display

from deeplab_lib import report
from deeplab_lib.plots import Missing, sign


class Gallery:
    """Shows figures one by one; `missing` lists those that the runs' files are too poor for, with the reason."""

    def __init__(self, scope):
        self.scope, self.shown, self.missing = scope, [], {}

    def show(self, label, caption, draw, *args, alt=None, vector=True, **kwargs):
        """Display `draw(*args, **kwargs)` as `fig-<label>`; where it raises `Missing`, say so. True if it was drawn."""
        try:
            figure = sign(draw(*args, **kwargs), self.scope)
        except Missing as reason:
            self.missing[label] = str(reason)
            display(Markdown(f"*A figure is left out ({label.replace('-', ' ')}): {reason}.*"))
            return False
        report.figure(figure, f"fig-{label}", caption, alt or caption, vector=vector)
        self.shown.append(label)
        return True
