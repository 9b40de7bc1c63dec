"""`python -m hack.dashboards` writes the chart's dashboards."""

import json

from hack.cluster.paths import REPOSITORY
from hack.dashboards.model import Dashboard, as_json
from hack.dashboards.views import DASHBOARDS

DIRECTORY = REPOSITORY / "charts" / "arbiter" / "files" / "dashboards"


def text(dashboard: Dashboard) -> str:
    """The file of a dashboard."""
    return json.dumps(as_json(dashboard), indent=2) + "\n"


def main() -> None:
    """Writes each to its file."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (DIRECTORY / f"{name}.json").write_text(text(dashboard))


if __name__ == "__main__":
    main()
