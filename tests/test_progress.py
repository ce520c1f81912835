"""What a long job says on a terminal and in a log."""

import io
import threading

import pytest

from avfeat.progress import Progress, duration


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_counts_what_is_done_failed_and_left_and_tells_the_time_to_go() -> None:
    clock, log = Clock(), io.StringIO()
    with Progress(10_000, stream=log, clock=clock) as progress:
        clock.now += 4113
        progress.advance(done=8214, failed=12)
    assert log.getvalue() == "done 8 214  failed 12  left 1 774  2.0 clips/s  14:47 to go\n"


def test_lines_are_ten_seconds_apart_and_the_last_one_is_always_there() -> None:
    clock, log = Clock(), io.StringIO()
    with Progress(35, unit="files", stream=log, clock=clock) as progress:
        for _ in range(35):
            clock.now += 1
            progress.advance()
    assert [line.split("  ")[0] for line in log.getvalue().splitlines()] == ["done 10", "done 20", "done 30", "done 35"]
    assert log.getvalue().splitlines()[-1] == "done 35  failed 0  left 0  1.0 files/s"


def test_throughput_follows_the_last_minute_not_the_slow_start() -> None:
    clock = Clock()
    progress = Progress(10_000, stream=io.StringIO(), clock=clock)
    clock.now += 600
    progress.advance()
    for _ in range(70):
        clock.now += 1
        progress.advance(done=4)
    assert progress.line() == "done 281  failed 0  left 9 719  4.0 clips/s  40:30 to go"


@pytest.mark.parametrize(
    ("seconds_each", "words"), [(0.5, "2.0 clips/s"), (60, "1.0 clips/min"), (1800, "2.0 clips/h")]
)
def test_a_slow_job_is_counted_by_the_minute_or_hour(seconds_each: float, words: str) -> None:
    clock = Clock()
    progress = Progress(100, stream=io.StringIO(), clock=clock)
    clock.now += seconds_each
    progress.advance(done=0, failed=1)
    assert words in progress.line()


def test_a_job_without_work_says_nothing() -> None:
    log = io.StringIO()
    with Progress(0, stream=log):
        pass
    assert log.getvalue() == ""


def test_an_error_in_the_job_passes_through_after_a_last_line() -> None:
    log = io.StringIO()
    with pytest.raises(KeyError), Progress(3, stream=log) as progress:
        progress.advance()
        raise KeyError
    assert log.getvalue().startswith("done 1  failed 0  left 2")


def test_threads_lose_no_count() -> None:
    progress = Progress(4000, stream=io.StringIO())
    threads = [threading.Thread(target=lambda: [progress.advance() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.done == 4000


def test_a_terminal_of_80_columns_gets_a_bar_with_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    clock, terminal = Clock(), Terminal()
    with Progress(10_000, stream=terminal, clock=clock) as progress:
        clock.now += 4113
        progress.advance(done=8214, failed=12)
    assert "━" in terminal.getvalue()
    assert "done 8 214  failed 12  left 1 774  2.0 clips/s  14:47 to go" in terminal.getvalue()


def test_a_terminal_that_cannot_draw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with Progress(1, stream=terminal) as progress:
        progress.advance()
    assert terminal.getvalue().startswith("done 1  failed 0  left 0")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (41.4, "0:41"), (59.6, "1:00"), (3599.7, "1:00:00"), (93_665, "26:01:05")]
)
def test_times_are_written_in_hours_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text
