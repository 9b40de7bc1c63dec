"""What /proc tells of living pods."""

from pathlib import Path

import pytest

from arbiter.ids import PodUid
from arbiter_deviceplugin.processes import Alive, alive_in, control_group_of, look, pod_of

UID = PodUid("11111111-2222-3333-4444-555555555555")
UNDERSCORED = UID.replace("-", "_")
OUTER = "99999999-2222-3333-4444-555555555555"
STATIC = "0123456789abcdef0123456789abcdef"
ONE, OTHER = "a" * 64, "b" * 64


def put(proc: Path, pid: int, text: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "cgroup").write_text(text)


def test_a_process_that_ended_during_the_look_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    put(tmp_path, 2, f"3:memory:/kubepods/pod{UID}/{ONE}\n")

    assert look(tmp_path) == Alive(pods=frozenset({UID}), containers=frozenset({ONE}))


def test_a_process_whose_groups_cannot_be_read_is_not_taken_for_one_that_ended(tmp_path: Path) -> None:
    (tmp_path / "1" / "cgroup").mkdir(parents=True)

    with pytest.raises(OSError, match="cgroup"):
        look(tmp_path)


def test_a_group_whose_name_is_no_text_hides_nobody(tmp_path: Path) -> None:
    path = f"/kubepods/pod{UID}/{ONE}"
    put(tmp_path, 7, "")
    (tmp_path / "7" / "cgroup").write_bytes(f"0::{path}/".encode() + b"\xff\xfe\n")

    assert look(tmp_path) == Alive(pods=frozenset({UID}), containers=frozenset({ONE}), groups={ONE: path})
    assert pod_of(tmp_path, 7) == UID


PATHS = [
    pytest.param(
        f"11:memory:/kubepods/besteffort/pod{UID}/{ONE}\n1:name=x:/kubepods/pod{UID}/{ONE}\n", UID, id="cgroupfs"
    ),
    pytest.param(f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ONE}.scope\n", UID, id="systemd"),
    pytest.param(
        f"0::/../../kubepods-burstable-pod{UNDERSCORED}.slice/crio-{ONE}.scope\n", UID, id="a namespace of groups"
    ),
    pytest.param(f"0::/kubepods/burstable/pod{STATIC}/{ONE}\n", STATIC, id="a static pod of cgroupfs"),
    pytest.param(
        f"0::/kubepods.slice/kubepods-pod{STATIC}.slice/cri-containerd-{ONE}.scope\n", STATIC, id="one of systemd"
    ),
    pytest.param(f"0::/kubepods/pod{OUTER}/{OTHER}/kubepods/pod{UID}/{ONE}\n", UID, id="a node that is a container"),
    pytest.param("0::/system.slice/containerd.service\n", "", id="no pod"),
    pytest.param(f"0::/pods/pod{ONE}\n", "", id="something longer than a uid"),
]


@pytest.mark.parametrize(("text", "pod"), PATHS)
def test_the_pod_of_a_process_is_read_from_the_path_of_its_group_under(tmp_path: Path, text: str, pod: str) -> None:
    put(tmp_path, 7, text)

    assert pod_of(tmp_path, 7) == pod
    assert alive_in([text]).pods >= ({pod} if pod else set())


def test_a_process_that_is_not_there_is_told_from_one_of_no_pod(tmp_path: Path) -> None:
    assert pod_of(tmp_path, 7) is None


def test_the_group_of_a_container_is_found_above_the_groups_that_it_made_itself(tmp_path: Path) -> None:
    path = f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ONE}.scope"
    put(tmp_path, 7, f"0::{path}/init.scope\n")

    assert look(tmp_path).groups == {ONE: path}
    assert control_group_of(tmp_path, "7") == f"{path}/init.scope"


def test_there_is_no_group_to_limit_where_only_version_1_is_used(tmp_path: Path) -> None:
    put(tmp_path, 7, f"3:memory:/kubepods/pod{UID}/{ONE}\n")

    assert look(tmp_path).groups == {}
    assert control_group_of(tmp_path, "7") is None
