"""A run's time: when to save, when to stop, how long it will take and what that costs."""

import time
from collections import deque
from statistics import median

from accelerate import Accelerator

from xr2text.config import TrainingConfig
from xr2text.training.loop import SAVE, STOP
from xr2text.training.state import Progress, StopRequest

FIRST_PROJECTION = 50  # updates of a session before its duration is projected

_PROCESS_STARTED = time.monotonic()


class Clock:
    """Asked after each update what is due.

    Args:
        stages: name and updates of each.
    """

    def __init__(self, settings: TrainingConfig, progress: Progress, stop: StopRequest, stages: list[tuple[str, int]]):
        self.settings, self.progress, self.stop, self.stages = settings, progress, stop, stages
        self.reason = ""
        self._saved = self._last = time.monotonic()
        self._steps: deque[float] = deque(maxlen=FIRST_PROJECTION)
        self._updates = 0

    def saved(self) -> None:
        self._saved = time.monotonic()

    def due(self, accelerator: Accelerator) -> str | None:
        """SAVE, STOP (then `reason` says why) or None; once in a session it prints the projected duration."""
        now = time.monotonic()
        self._steps.append(now - self._last)
        self._last = now
        self._updates += 1
        if self._updates == FIRST_PROJECTION:
            accelerator.print(self.projection())
        hours = self.settings.budget.hours
        for reason, over in (
            ("stopped as asked", self.stop.asked),
            ("time is up", _over(self.settings.stop_after_minutes, 60, now - _PROCESS_STARTED)),
            ("the budget is spent", _over(hours, 3600, self.progress.seconds)),
        ):
            if over:
                self.reason = reason
                return STOP
        return SAVE if now - self._saved > self.settings.checkpoint_minutes * 60 else None

    def projection(self) -> str:
        """How long the stages and the whole run take at the pace of the latest updates, validation aside."""
        pace = median(self._steps)
        parts = [f"{name} {_hours(updates * pace)}" for name, updates in self.stages]
        total = sum(updates for _, updates in self.stages)
        left = max(0, total - self.progress.updates) * pace
        text = f"at {pace:.2f} s an update: {', '.join(parts)}; in all {_hours(total * pace)}, {_hours(left)} left"
        rate = self.settings.budget.hourly_rate
        if rate is not None:
            text += f"; about {total * pace / 3600 * rate:.2f} at {rate:g} an hour"
        return text + " (validation aside)"


def _over(limit: float | None, unit: float, seconds: float) -> bool:
    return limit is not None and seconds > limit * unit


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"
