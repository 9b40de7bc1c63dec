"""docs/reference/container.md shows what the agent writes and answers."""

import json
import re
from fractions import Fraction

from arbiter.ids import GpuUuid
from arbiter.transitions import Grant, GrantReason
from arbiter.units import GIB, MIB
from arbiter.workload import PolicyMode
from arbiter_deviceplugin.target import told
from tests.support.snippets import ROOT, sections
from tests.unit.deviceplugin.test_target import DECISION
from tests.unit.extender.builders import a_pod

PAGE = ROOT / "docs" / "reference" / "container.md"
TOLD = told(
    Grant(revision=3, quality=Fraction("0.904"), vram=9256 * MIB, target=Fraction("0.904"), reason=GrantReason.TARGET),
    demand=a_pod("chat").pod.demand,
    decision=DECISION,
    mode=PolicyMode.FIXED,
    totals={GpuUuid("GPU-8a1f"): 12 * GIB},
)


def test_the_document_is_what_a_container_reads() -> None:
    (shown,) = (block.text for section in sections(PAGE) for block in section.blocks if block.mark == "json")
    assert json.loads(shown) == json.loads(TOLD.document)


def test_every_field_and_file_is_explained() -> None:
    text = PAGE.read_text()
    fields = re.findall(r"^\| `(\w+)` \|", text.partition("## quality.json")[2], re.MULTILINE)
    assert fields == [field for field in json.loads(TOLD.document) if field not in ("apiVersion", "kind")]
    assert [name for name in TOLD.files if not re.search(rf"`(/run/arbiter/)?{re.escape(name)}`", text)] == []
