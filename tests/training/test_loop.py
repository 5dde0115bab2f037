from accelerate import Accelerator

from xr2text.training import loop
from xr2text.training.loop import Clock, projection
from xr2text.training.optim import StageSpan
from xr2text.training.state import Progress, StopRequest

PLAN = [StageSpan("warmup", 600), StageSpan("hard", 1200)]


def make_clock(save=lambda: None):
    return Clock(Accelerator(cpu=True), Progress(1800), PLAN, StopRequest(), save, None)


def test_the_state_is_saved_when_it_is_time_and_when_the_run_is_to_stop():
    saved = []
    clock = make_clock(lambda: saved.append(True))
    assert not clock.after_update() and not saved
    clock._saved -= loop.SAVE_SECONDS + 1
    assert not clock.after_update() and not clock.after_update() and len(saved) == 1
    clock.stop.asked = True
    assert clock.after_update() and len(saved) == 2


def test_the_projection_tells_stages_whole_and_cost():
    text = projection(PLAN, 900, 2.0, hourly_rate=2.0)
    assert "warmup 0:20 h, hard 0:40 h; in all 1:00 h, 0:30 h left; about 2.00 at 2 an hour" in text
    assert "about" not in projection(PLAN, 900, 2.0, None)


def test_the_projection_has_a_line_to_itself_once_in_a_session(monkeypatch, capsys):
    monkeypatch.setattr(loop, "FIRST_PROJECTION", 3)
    clock = make_clock()
    for _ in range(5):
        clock.after_update()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("at 0.00 s an update: warmup")
