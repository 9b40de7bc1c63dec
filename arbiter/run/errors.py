"""Why an engine is not run; the text is one sentence for whoever wrote the command."""


class RunError(Exception):
    """The command line, or what it asks for, cannot work."""
