"""Draws lists of pods that differ in one thing from a list of Alibaba's cluster-trace-gpu-v2023, to pack those too.

    .venv/bin/python -m hack.trace_family build/openb/openb_pod_list_default.csv build/family

Made as the lists of FGD's evaluation are: pods of a sort are drawn again until that sort has its share.
"""

import csv
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from arbiter.simulation import WHOLE
from arbiter_cli.traces import node_list_beside

Row = dict[str, str]

MODELS = {
    "T4": 50,
    "P100": 15,
    "G2": 10,
    "V100M16|V100M32": 8,
    "P100|V100M16|V100M32": 8,
    "G3": 3,
    "A10|G2|T4|V100M16|V100M32": 3,
    "G2|P100|T4|V100M16|V100M32": 3,
}
"""What pods say that will do, and about how many of a hundred say so."""


class Pods:
    """The rows of a list by what they ask for; each method gives another list, always the same."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.without = [row for row in rows if not int(row["num_gpu"])]
        self.with_gpus = [row for row in rows if int(row["num_gpu"])]

    def fewer_without_gpus(self) -> list[Row]:
        """Pods without GPUs are 5 percent of all."""
        return self.with_gpus + Random(1).choices(self.without, k=round(len(self.with_gpus) * 0.05 / 0.95))

    def more_parts(self) -> list[Row]:
        """60 percent of what is asked for are parts of a GPU."""
        return self._mixed(lambda row: int(row["gpu_milli"]) < WHOLE, 0.6)

    def more_groups(self) -> list[Row]:
        """50 percent of what is asked for are several GPUs at once."""
        return self._mixed(lambda row: int(row["num_gpu"]) > 1, 0.5)

    def choosy(self) -> list[Row]:
        """33 percent of the pods with GPUs say which models will do."""
        random, rows = Random(1), [{**row} for row in self.with_gpus]
        for row in random.sample(rows, k=round(0.33 * len(rows))):
            (row["gpu_spec"],) = random.choices([*MODELS], [*MODELS.values()])
        return self.without + rows

    def _mixed(self, is_one: Callable[[Row], bool], part: float) -> list[Row]:
        random, count = Random(1), len(self.with_gpus)
        ones = [row for row in self.with_gpus if is_one(row)]
        others = [row for row in self.with_gpus if not is_one(row)]
        much, little = part * _mean(others), (1 - part) * _mean(ones)
        number = round(count * much / (much + little))
        return self.without + random.choices(ones, k=number) + random.choices(others, k=count - number)


def _mean(rows: Sequence[Row]) -> float:
    """Thousandths of GPUs that a pod asks for."""
    return sum(int(row["num_gpu"]) * int(row["gpu_milli"]) for row in rows) / len(rows)


def write_family(source: Path, folder: Path) -> None:
    """Writes the four lists, and the nodes that lie beside `source`."""
    with source.open(newline="") as lines:
        pods = Pods([*csv.DictReader(lines)])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(node_list_beside(source), folder)
    family = {
        "cpu050": pods.fewer_without_gpus(),
        "gpushare60": pods.more_parts(),
        "multigpu50": pods.more_groups(),
        "gpuspec33": pods.choosy(),
    }
    for name, rows in family.items():
        with (folder / f"like_{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows({**row, "name": f"pod-{number:05}"} for number, row in enumerate(rows))


if __name__ == "__main__":
    write_family(Path(sys.argv[1]), Path(sys.argv[2]))
