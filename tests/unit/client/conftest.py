"""A container's agent, stopped and running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import FakeAgent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    fake = FakeAgent(tmp_path)
    yield fake
    fake.stop()


@pytest.fixture
def running_agent(agent: FakeAgent) -> FakeAgent:
    """Up, with revision 1 published."""
    agent.publish(1)
    agent.start()
    return agent
