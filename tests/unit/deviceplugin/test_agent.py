"""What an agent says of its own readiness."""

import pytest

from arbiter_deviceplugin.agent import obstacle_of

OBSTACLES = {
    "nothing": ({}, None),
    "no list yet": ({"is_listed": False}, "the pods of this node have not been listed yet"),
    "a watch that is silent": (
        {"silence": 200.4},
        "the API server has said nothing of this node's pods for 200 s",
    ),
    "no kubelet": ({"is_registered": False}, "not registered with the kubelet"),
    "processes of somebody else": (
        {"sees_processes": False},
        "--proc-dir does not show the kubelet's process, so no memory is freed; give the pod hostPID: true",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), OBSTACLES.values(), ids=OBSTACLES.keys())
def test_what_keeps_an_agent_from_serving(changes: dict[str, object], sentence: str | None) -> None:
    fine: dict[str, object] = {"is_listed": True, "silence": 1.0, "is_registered": True, "sees_processes": True}

    assert obstacle_of(**{**fine, **changes}) == sentence  # type: ignore[arg-type]  # a table of any of them
