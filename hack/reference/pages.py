"""Every generated page. Imports the modules that make them."""

from hack.reference import annotations, commands, metrics, resources, values


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    made_by = {
        "resources.md": resources.page,
        "annotations.md": annotations.page,
        "metrics.md": metrics.page,
        "values.md": values.page,
        "commands.md": commands.page,
    }
    return {
        name: f"<!-- Generated from the code by `make reference`. Do not edit. -->\n\n{page()}"
        for name, page in made_by.items()
    }
