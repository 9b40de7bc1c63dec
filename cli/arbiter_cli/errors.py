"""What a command says when it cannot be carried out. Imports the standard library only."""


class InputError(Exception):
    """Bad usage or input: exit code 2. The text is one sentence: where, what, and what to write instead."""
