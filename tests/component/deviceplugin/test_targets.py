"""A target reaches its container, and what the container answers is never forgotten."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from arbiter.units import GIB, MIB
from arbiter_deviceplugin.disk import Disk
from arbiter_kube.api.gpunode import GrantState
from tests.component.deviceplugin.support import Json, Site, eventually
from tests.unit.extender.builders import a_pod

HIGH = a_pod("chat").sizes(full="10Gi", floor="4Gi")


async def test_a_new_target_reaches_the_file_and_whoever_waits_at_the_socket(site: Site) -> None:
    chat = await site.run(HIGH)
    await chat.engine.acknowledge()
    waiting = asyncio.create_task(chat.engine.ask(after=1, patience="60s"))

    await site.set_target(chat.pod, "0.904", 9256 * MIB, revision=2)

    told = await waiting
    assert told == chat.engine.target
    assert {
        key: told[key] for key in ("quality", "target", "minimum", "vramBytes", "revision", "pressure", "mode")
    } == {
        "quality": 0.904,
        "target": 0.904,
        "minimum": 0.4,
        "vramBytes": 9256 * MIB,
        "revision": 2,
        "pressure": "High",
        "mode": "Adaptive",
    }
    grant = await site.eventually_grant(chat.pod, lambda grant: grant.revision == 2, "published shrink")
    assert (grant.granted, grant.held, grant.movable) == (9256 * MIB, 10 * GIB, True)


async def test_a_question_without_news_is_answered_with_what_there_is(site: Site) -> None:
    chat = await site.run(HIGH)

    assert await chat.engine.ask(after=1, patience="100ms") == chat.engine.target


async def test_an_acknowledgement_is_on_the_disk_before_it_is_answered(site: Site) -> None:
    chat = await site.run(HIGH)

    await chat.engine.acknowledge()
    site.agent.kill()

    (record,) = Disk(site.place.state).records()
    assert (record.uid, record.acknowledged, record.applied) == (chat.pod.uid, 1, 10 * GIB)


LIES = {
    "a revision that was never told": {"revision": 99, "quality": 0.4, "vramBytes": 4 * GIB},
    "less than it was told": {"revision": 1, "quality": 0.4, "vramBytes": 0},
    "a revision of before": {"revision": 0, "quality": 0.4, "vramBytes": 0},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_who_acknowledges_what_it_was_not_told_frees_nothing(site: Site, lie: dict[str, float]) -> None:
    chat = await site.run(HIGH)

    status, _ = await chat.engine.post(json.dumps(lie))
    await chat.engine.acknowledge()

    assert status == 200
    grant = await site.eventually_grant(chat.pod, lambda grant: grant.movable, "acknowledged grant")
    assert (grant.granted, grant.held) == (10 * GIB, 10 * GIB)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("no json", id="no JSON"),
        pytest.param("[" * 3000, id="deeper nesting than anybody reads"),
        pytest.param('{"revision": 1}', id="fields missing"),
        pytest.param('{"revision": -1, "quality": 1, "vramBytes": 1}', id="a negative revision"),
        pytest.param('{"revision": 1, "quality": 2, "vramBytes": 1}', id="a quality above 1"),
    ],
)
async def test_an_acknowledgement_that_makes_no_sense_is_refused(site: Site, body: str) -> None:
    chat = await site.run(HIGH)

    status, text = await chat.engine.post(body)

    assert (status, "send {" in text) == (400, True)


async def test_a_body_that_is_too_long_is_refused(site: Site) -> None:
    chat = await site.run(HIGH)

    status, _ = await chat.engine.post(json.dumps({"revision": 1, "quality": 1, "vramBytes": 1, "x": "y" * 10_000}))

    assert status == 413


async def test_a_killed_agent_comes_back_with_what_containers_may_hold_and_tells_them_again(site: Site) -> None:
    chat = await site.run(HIGH)
    await chat.engine.acknowledge()
    await site.set_target(chat.pod, "0.500", 5 * GIB, revision=2)
    await chat.engine.ask(after=1)

    site.agent.kill()
    (chat.engine.directory / "quality.json").unlink()
    site.agent.start()
    await site.agent.ready()

    told = await eventually(lambda: _file(chat.engine.directory), "file written anew")
    assert (told["revision"], told["vramBytes"]) == (2, 5 * GIB)
    grant = await site.eventually_grant(chat.pod, lambda grant: grant.revision == 2, "published grant")
    assert (grant.granted, grant.held) == (5 * GIB, 10 * GIB)
    await chat.engine.acknowledge()
    grant = await site.eventually_grant(chat.pod, lambda grant: grant.held == 5 * GIB, "confirmed shrink")
    assert grant.state is GrantState.MOVABLE


async def test_a_directory_that_somebody_removed_is_made_again_at_the_next_start(site: Site) -> None:
    chat = await site.run(HIGH)
    shutil.rmtree(chat.engine.directory)

    assert await site.kubelet.prestart(chat.container) == ""

    assert chat.engine.target["vramBytes"] == 10 * GIB
    await chat.engine.acknowledge()


async def test_with_measured_use_a_shrink_counts_once_it_is_seen(site: Site) -> None:
    chat = await site.run(HIGH)
    key = f"{site.namespace}/chat"
    site.place.write_gpus({"uuid": "GPU-0", "index": 0, "total": 12 * GIB}, use={key: 10 * GIB})
    await chat.engine.acknowledge()
    await site.set_target(chat.pod, "0.500", 5 * GIB, revision=2)
    await chat.engine.acknowledge(await chat.engine.ask(after=1))
    grant = await site.eventually_grant(chat.pod, lambda grant: grant.applied == 5 * GIB, "acknowledged shrink")
    assert grant.held == 10 * GIB

    site.place.write_gpus({"uuid": "GPU-0", "index": 0, "total": 12 * GIB}, use={key: 5 * GIB})

    await site.eventually_grant(chat.pod, lambda grant: grant.held == 5 * GIB, "confirmed shrink")


def _file(directory: Path) -> Json:
    path = directory / "quality.json"
    return json.loads(path.read_text()) if path.exists() else None
