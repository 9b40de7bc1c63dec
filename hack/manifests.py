"""Writes the chart's objects as files for kubectl: `python -m hack.manifests`, with the chart's values in a file."""

import argparse
import sys
from pathlib import Path

import yaml

from hack.cluster import binaries
from hack.cluster.chart import NAMESPACE_OBJECT, render
from hack.cluster.errors import ClusterError
from hack.cluster.paths import REPOSITORY

DIRECTORY = REPOSITORY / "build" / "manifests"


def main() -> int:
    """Returns 0, or 1 where the chart refuses the values."""
    parser = argparse.ArgumentParser(prog="python -m hack.manifests")
    parser.add_argument("--values", type=Path, help="YAML file with values of the chart")
    parser.add_argument("--kube-version", default=binaries.KUBERNETES_VERSION, help="the cluster's version")
    options = parser.parse_args()
    try:
        values = yaml.safe_load(options.values.read_text()) if options.values else {}
        objects = render(values, flags=("--skip-tests", f"--kube-version={options.kube_version}"))
    except (ClusterError, OSError, yaml.YAMLError) as error:
        print(error, file=sys.stderr)
        return 1
    crds = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, written in {
        "crds": crds,
        "arbiter": [NAMESPACE_OBJECT, *(one for one in objects if one not in crds)],
    }.items():
        path = DIRECTORY / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all(written, sort_keys=False))
        # The key of the webhook's certificate is in there.
        path.chmod(0o600)
        print(f"kubectl apply --server-side -f {path.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
