"""What a command says when it cannot be carried out. Imports the standard library only."""


class InputError(Exception):
    """Bad usage or input: exit code 2. The text is one sentence: where, what, and what to write instead."""


class MistakeError(Exception):
    """What is wrong with one object of a manifest; the text has no full stop, and whoever raises it knows no file."""
