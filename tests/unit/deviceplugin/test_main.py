"""The agent's flags."""

import argparse
from fractions import Fraction

import pytest

from arbiter_deviceplugin.main import add_arguments


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "xids"),
    [
        pytest.param([], frozenset(), id="none by default"),
        pytest.param(["--ignored-xids", "63, 94"], frozenset({63, 94}), id="those that are listed"),
        pytest.param(["--ignored-xids", ""], frozenset(), id="none where the list is empty"),
    ],
)
def test_ignored_xids_are(arguments: list[str], xids: frozenset[int]) -> None:
    assert parse(*arguments).ignored_xids == xids


def test_a_word_that_is_no_xid_is_refused_with_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--ignored-xids", "63,all")

    assert "all is no XID; write numbers with commas, as 63,94." in capsys.readouterr().err


def test_gpus_and_their_budget_are_all_by_default() -> None:
    chosen = parse("--devices", "0, GPU-8a1f,0", "--vram-budget", "87.5%")
    assert (parse().devices, parse().vram_budget) == ((), 1)
    assert (chosen.devices, chosen.vram_budget) == (("0", "GPU-8a1f"), Fraction("0.875"))


@pytest.mark.parametrize("text", ["0%", "101%", "0.9", "90"])
def test_a_share_is_a_percentage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--vram-budget", text)

    assert f"{text} is no share of a GPU; write a percentage above 0, as 90%." in capsys.readouterr().err


def test_a_start_may_wait_as_long_as_the_kubelet_does() -> None:
    assert [parse().start_wait, parse("--start-wait", "2s").start_wait] == [25.0, 2.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("28s", "28s is no time that a start can wait; write 2s to 27s, as 25s.", id="too long"),
        pytest.param("1s", "1s is no time that a start can wait; write 2s to 27s, as 25s.", id="too short"),
        pytest.param("soon", '"soon" is no duration; write for example 30s or 2m30s.', id="no duration"),
    ],
)
def test_another_time_is_refused(text: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--start-wait", text)

    assert sentence in capsys.readouterr().err
