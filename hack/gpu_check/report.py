"""What was seen, and how it is told: lines while it happens, at the end one block of Markdown."""

from dataclasses import dataclass, field
from enum import StrEnum

from arbiter.units import MIB


class Verdict(StrEnum):
    """What became of a point."""

    HELD = "held"
    FAILED = "FAILED"
    UNTOLD = "cannot be told here"


@dataclass(frozen=True, slots=True)
class Finding:
    """One point of the contract, and what was seen of it."""

    verdict: Verdict
    point: str
    seen: str


@dataclass(slots=True)
class Report:
    """Findings, in order; `rows` are the moments of the sharing, `facts` what machine it was."""

    facts: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def fact(self, text: str) -> None:
        """Something about the machine."""
        self.facts.append(text)
        print(f"  {text}", flush=True)

    def check(self, point: str, *, holds: bool | None, seen: str) -> None:
        """A point that holds or not; None where this machine cannot tell."""
        verdict = Verdict.UNTOLD if holds is None else Verdict.HELD if holds else Verdict.FAILED
        self.findings.append(Finding(verdict, point, seen))
        print(f"  {verdict.value:>19}: {point} ({seen})", flush=True)

    def row(self, *cells: str) -> None:
        """A moment of the sharing."""
        self.rows.append(cells)
        print(f"  {' | '.join(cells)}", flush=True)

    @property
    def has_failed(self) -> bool:
        """Whether a point does not hold."""
        return any(finding.verdict is Verdict.FAILED for finding in self.findings)

    def markdown(self, columns: tuple[str, ...]) -> str:
        """The block for docs/proven.md; `columns` head the rows."""
        lines = [*(f"- {fact}" for fact in self.facts), ""]
        lines += ["| | point | seen |", "|---|---|---|"]
        lines += [f"| {finding.verdict.value} | {finding.point} | {finding.seen} |" for finding in self.findings]
        if self.rows:
            lines += ["", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
            lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


def mib(size: int | None) -> str:
    """Bytes as people read them; a dash where there are none to tell."""
    return "-" if size is None else f"{size / MIB:.0f} MiB"
