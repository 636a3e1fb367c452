"""Progress is a bar on a terminal and lines elsewhere, on stderr alone."""

import os
import pty
import sys
import termios

import pytest

from radiffuse import progress
from radiffuse.progress import Progress, track


def test_lines_say_how_far_how_fast_and_how_long_still(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with Progress(total=10, label="encode", unit="images") as shown:
        shown.update(4, loss=0.123456, note="warm")
    captured = capsys.readouterr()
    first, *_ = captured.err.splitlines()
    assert captured.out == ""
    assert first.startswith("progress=encode done=4 total=10 unit=images per_second=")
    assert " eta_seconds=" in first
    assert first.endswith(" loss=0.1235 note=warm")


def test_short_work_gets_one_line_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(1000), label="count", unit="numbers")) == list(range(1000))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("progress=count done=1000 total=1000 unit=numbers ")
    assert line.endswith(" eta_seconds=0")


def test_an_unknown_total_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert sum(track(iter((1, 2, 3)), label="sum")) == 6
    line = capsys.readouterr().err
    assert "done=3 unit=items" in line
    assert "eta_seconds" not in line


def test_closing_twice_shows_the_end_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(total=1)
    shown.close()
    shown.close()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_work_that_fails_still_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    shown = track([1, 2, 3], label="work")
    next(shown)
    next(shown)
    shown.close()  # type: ignore[attr-defined]
    assert "done=1 total=3" in capsys.readouterr().err


def test_only_rank_0_reports(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert list(track([1])) == [1]
    assert capsys.readouterr().err == ""


def _written_to_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 100) -> str:
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (30, columns))
    with os.fdopen(writer, "w") as terminal, os.fdopen(reader, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(total=2, label="train", unit="steps") as shown:
            shown.update(2, loss=0.5)
        print("end", file=terminal, flush=True)
        text = b""
        while b"end" not in text:
            text += screen.read(4096)
        return text.decode()


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RADIFFUSE_PROGRESS", raising=False)
    text = _written_to_a_terminal(monkeypatch)
    assert "train: 100%" in text
    assert "2/2" in text
    assert "loss=0.5" in text


def test_a_terminal_without_columns_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RADIFFUSE_PROGRESS", raising=False)
    assert _written_to_a_terminal(monkeypatch, columns=0).startswith("progress=train done=2 total=2 unit=steps ")


def test_lines_can_be_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIFFUSE_PROGRESS", "lines")
    assert _written_to_a_terminal(monkeypatch).startswith("progress=train done=2 total=2 unit=steps ")
