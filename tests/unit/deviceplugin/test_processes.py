"""What /proc tells of living pods."""

from pathlib import Path

import pytest

from arbiter.ids import PodUid
from arbiter_deviceplugin.processes import Alive, look

UID = "11111111-2222-3333-4444-555555555555"


def test_a_process_that_ended_during_the_look_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "cgroup").write_text(f"0::/kubepods/pod{UID}/{'a' * 64}\n")

    assert look(tmp_path) == Alive(pods=frozenset({PodUid(UID)}), containers=frozenset({"a" * 64}))


def test_a_process_whose_groups_cannot_be_read_is_not_taken_for_one_that_ended(tmp_path: Path) -> None:
    (tmp_path / "1" / "cgroup").mkdir(parents=True)

    with pytest.raises(OSError, match="cgroup"):
        look(tmp_path)
