"""The learning rate and everything else that changes while a run trains, as pure functions of the optimiser step.

Nothing here has state: a resumed run asks for step t and gets what the undisturbed run had at step t.
"""

from deeplab_lib.recipes import Change


class PolyLR:
    """Poly decay with linear warm-up and mid-training changes.

    lr(t) = base_lr * (1 - t / T)^power(t) * min(1, (t + 1) / warmup_steps), with the power in force at step t (DeepLab,
    TPAMI 2018, section 4.1; the decay stays global when the power changes). Changes act by progress, so that a short
    run replays a plan of 50 epochs.

    Args: base_lr: initial rate. total_steps: T. power, weights: in force from the start. changes: `recipes.Change`s.
    """

    def __init__(self, base_lr, total_steps, power=0.9, warmup_steps=0, weights=None, changes=()):
        self.base_lr, self.total_steps, self.warmup_steps = base_lr, total_steps, warmup_steps
        start = Change(epoch=1, power=power, weights=dict(weights or {}), freeze=())
        self.changes = (start, *sorted(changes, key=lambda change: change.epoch))

    def lr(self, step):
        """Base learning rate of optimiser step `step` (0-based); 0 from T on, never negative."""
        remaining = max(0.0, 1 - step / self.total_steps)
        warmth = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.base_lr * remaining ** self.power(step) * warmth

    def power(self, step):
        """Exponent of the decay in force at `step`."""
        return self._last("power", step)

    def weights(self, step):
        """Loss weights `{term: weight}` in force at `step`."""
        return self._last("weights", step)

    def frozen(self, step):
        """Names of the parts frozen at `step`; what was frozen once stays so."""
        return tuple(dict.fromkeys(name for change in self._past(step) for name in change.freeze))

    def _past(self, step):
        return [change for change in self.changes if change.first_step(self.total_steps) <= step]

    def _last(self, setting, step):
        return [getattr(c, setting) for c in self._past(step) if getattr(c, setting) is not None][-1]
