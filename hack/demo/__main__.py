"""`python -m hack.demo`: bring the cluster up where it is not, then tell the story."""

import os
import sys
from pathlib import Path

from hack.cluster import binaries
from hack.cluster.cli import STATE_DIRECTORY
from hack.cluster.cluster import Cluster
from hack.cluster.errors import CannotRunError, ClusterError
from hack.cluster.paths import REPOSITORY
from hack.demo.story import Story
from hack.observe import NotSeenError

_LOG_LINES = 15


def main() -> int:
    """Run the demo; 0 when every step happened, 1 when one did not, 2 where it cannot run."""
    cluster = Cluster(STATE_DIRECTORY)
    version = binaries.KUBERNETES_VERSION
    print(f"Kubernetes {version} on this machine: 1 node, 1 simulated GPU, 12 GiB usable. No GPU needed.", flush=True)
    try:
        cluster.up(nodes=1, gpus="12Gi")
        story = Story(cluster, REPOSITORY / "examples")
        story.clear()
        chat = story.run()
    except CannotRunError as error:
        print(f"{error}\nWithout a cluster: .venv/bin/arbiter plan -f examples/ --gpu 12Gi", file=sys.stderr)
        return 2
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except NotSeenError as error:
        print(f"\nThe demo failed: {error}, whose log ends:", file=sys.stderr)
        print("\n".join(error.log.splitlines()[-_LOG_LINES:]), file=sys.stderr)
        return 1
    print(
        "\nCluster stays up: "
        f"export KUBECONFIG={os.path.relpath(cluster.kubeconfig)} "
        f"PATH=$PATH:{binaries.directory()}:{Path(sys.executable).parent}\n"
        f"Look: arbiter top     arbiter explain pod/{chat} -n team-a     arbiter doctor\n"
        f"      kubectl get gpua,gpun,qpol -A     kubectl logs {chat} -n team-a\n"
        "Stop: make cluster-down"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
