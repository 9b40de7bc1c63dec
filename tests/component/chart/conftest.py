"""What the chart renders to, with its defaults and with every other choice that it offers."""

import pytest

from hack.cluster import binaries


@pytest.fixture(scope="package", autouse=True)
def helm() -> None:
    """The binary, built where it is missing."""
    binaries.ensure([binaries.HELM])
