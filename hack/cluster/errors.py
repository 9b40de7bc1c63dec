"""The package's exception tree: each message is one sentence for the person who typed the command. Imports nothing."""


class ClusterError(Exception):
    """Base of all errors of this package."""


class CannotRunError(ClusterError):
    """This machine cannot run what was asked for; nothing was changed."""


class SizeError(ClusterError):
    """A memory size or number of nodes that cannot be read, or that an existing cluster does not have."""


class CommandError(ClusterError):
    """A tool that was called to do one thing ended with an error."""


class ComponentError(ClusterError):
    """A component ended or did not become ready in time."""
