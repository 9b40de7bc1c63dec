"""The agent's flags."""

import argparse

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
