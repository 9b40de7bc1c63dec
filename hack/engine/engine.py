"""An engine without a GPU: it follows its quality target as a real one would and prints each step.

It stands in for an inference engine in the demo and in the cluster's tests, which read its lines. Imports the standard
library and `arbiter.client`; README.md beside it says what it prints and how its image is laid out.
"""

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from types import FrameType

from arbiter.client import QualityError, QualityTarget, watch_quality


class Manner(StrEnum):
    """How the engine keeps its side of the contract."""

    HONEST = "honest"
    SILENT = "silent"  # applies, never acknowledges
    LYING = "lying"  # acknowledges all the same, goes on using what it first got
    REPEATING = "repeating"  # acknowledges everything twice


_ACKNOWLEDGEMENTS = {Manner.HONEST: 1, Manner.SILENT: 0, Manner.LYING: 1, Manner.REPEATING: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says; times in seconds, context in tokens."""

    apply_seconds: float
    run_seconds: float | None
    context: int
    manner: Manner
    journal: bool


class Ended(BaseException):
    """The signal that ends the engine; a BaseException, so that nothing on the way mistakes it for a failure."""


def context_of(quality: float, *, full: int) -> str:
    """Detail level and tokens, such as ``reduced(4096)``: the steps of Infernum's engine (infernum-arbiter 0.2.0)."""
    if quality >= 0.9:
        return f"full({full})"
    if quality >= 0.6:
        return f"reduced({full // 2})"
    return f"minimal({full // 4})"


def kv_factor(quality: float, *, pressure: str) -> Fraction:
    """Which part of its KV cache the engine keeps: it gives way under pressure as long as its quality is good."""
    if pressure == "Critical" and quality > 0.5:
        return Fraction(1, 4)
    if pressure == "High" and quality > 0.7:
        return Fraction(1, 2)
    return Fraction(1)


class Engine:
    """Carries out one target after another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started = time.monotonic()
        self._used = 0

    def serve(self) -> None:
        """Follow the target until a signal ends it.

        Raises:
            Ended: SIGTERM, or the run is complete.
            QualityError: this is no container of Arbiter's, or no target came.
        """
        self._say_started()
        for target in watch_quality():
            self._journal("told", target)
            time.sleep(self._settings.apply_seconds)
            remark = self._apply(target)
            for _ in range(_ACKNOWLEDGEMENTS[self._settings.manner]):
                self._acknowledge(target, remark=remark)

    def release(self, why: str) -> None:
        """Say that nothing is in use from now on."""
        self._journal("released")
        _say(f"released {_mib(self._used)} after {time.monotonic() - self._started:.1f}s: {why}")

    def _apply(self, target: QualityTarget) -> str:
        """Use what the target says, or what a liar uses; returns what is to be remarked of it."""
        if self._settings.manner is Manner.LYING:
            self._used = self._used or target.vram_bytes
            self._journal("applied", target)
            return f", still using {_mib(self._used)}"
        self._used = target.vram_bytes
        self._journal("applied", target)
        context = context_of(target.quality, full=self._settings.context)
        kv = kv_factor(target.quality, pressure=target.pressure)
        _say(f"{_head(target)} context {context} kv {kv} applied after {self._settings.apply_seconds:g}s")
        return ""

    def _acknowledge(self, target: QualityTarget, *, remark: str) -> None:
        if target.acknowledge():
            self._journal("acknowledged", target)
            _say(f"{_head(target)} acknowledged{remark}")
        else:
            _say(f"{_head(target)} superseded before its acknowledgement")

    def _say_started(self) -> None:
        self._journal("started")
        settings = self._settings
        until = "SIGTERM" if settings.run_seconds is None else f"{settings.run_seconds:g}s have passed"
        _say(f"started {settings.manner}, applies after {settings.apply_seconds:g}s, runs until {until}")

    def _journal(self, step: str, target: QualityTarget | None = None) -> None:
        """One line for whoever reconstructs which container might use which bytes of which GPUs at which instant."""
        if self._settings.journal:
            what = "" if target is None else self._grant(step, target)
            _say(f"journal {time.time():.6f} {step}{what}")

    def _grant(self, step: str, target: QualityTarget) -> str:
        vram = self._used if step == "applied" else target.vram_bytes
        gpus = ",".join(target.gpus)
        return f" revision={target.revision} quality={target.quality} vramBytes={vram} gpus={gpus}"


def main() -> int:
    """Run the engine; 0 at its end, 1 without a target, 2 for a bad command line."""
    settings = parse_arguments(sys.argv[1:])
    engine = Engine(settings)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _end)
    try:
        if settings.run_seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, max(settings.run_seconds, 0.001))  # 0 would switch it off
        engine.serve()
    except Ended as ended:
        engine.release(str(ended))
    except QualityError as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str]) -> Settings:
    """Settings from flags, else from the environment variable named beside each."""
    parser = argparse.ArgumentParser(prog="engine", description="A simulated engine that follows its quality target.")
    parser.add_argument(
        "--apply-seconds",
        type=seconds,
        default=os.environ.get("ENGINE_APPLY_SECONDS", "0.3"),
        metavar="SECONDS",
        help="time from a new target to its being applied ($ENGINE_APPLY_SECONDS; default 0.3)",
    )
    parser.add_argument(
        "--run-seconds",
        type=seconds,
        default=os.environ.get("ENGINE_RUN_SECONDS"),
        metavar="SECONDS",
        help="exit with 0 after this time, as a job does ($ENGINE_RUN_SECONDS; default: run until SIGTERM)",
    )
    parser.add_argument(
        "--context",
        type=int,
        default=os.environ.get("ENGINE_CONTEXT", "8192"),
        metavar="TOKENS",
        help="context at full quality ($ENGINE_CONTEXT; default 8192)",
    )
    parser.add_argument(
        "--journal",
        action=argparse.BooleanOptionalAction,
        default=os.environ.get("ENGINE_JOURNAL", "1") != "0",
        help="print each step with its time ($ENGINE_JOURNAL: 1 or 0; default 1)",
    )
    manner = parser.add_mutually_exclusive_group()
    manner.add_argument(
        "--manner",
        type=Manner,
        choices=list(Manner),
        default=os.environ.get("ENGINE_MANNER", "honest"),
        help="how it keeps its side of the contract ($ENGINE_MANNER; default honest)",
    )
    manner.add_argument("--silent", dest="manner", action="store_const", const=Manner.SILENT, help="never acknowledge")
    manner.add_argument(
        "--lie",
        dest="manner",
        action="store_const",
        const=Manner.LYING,
        help="acknowledge at once and keep what it has",
    )
    return Settings(**vars(parser.parse_args(arguments)))


def _end(signum: int, _frame: FrameType | None) -> None:
    for ending in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(ending, signal.SIG_IGN)  # a second one must not break off the release
    raise Ended("run complete" if signum == signal.SIGALRM else "SIGTERM")


def seconds(text: str) -> float:
    """A time from the command line; argparse shows this function's name for what is no number."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time in seconds; write 0 or more, such as 0.3")
    return value


def _head(target: QualityTarget) -> str:
    return f"quality {target.quality:.3f} {_mib(target.vram_bytes)} revision {target.revision}"


def _mib(size: int) -> str:
    return f"{size >> 20}Mi"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
