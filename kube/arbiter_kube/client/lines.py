"""Lines out of a stream that arrives in pieces.

aiohttp's own reader refuses lines beyond a fixed length, and one object may have more than a megabyte.
"""


class LineSplitter:
    """Feed it pieces, get whole lines without their ends."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece; the rest waits for the next one."""
        *ended, rest = piece.split(b"\n")
        if ended:
            ended[0] = b"".join([*self._pieces, ended[0]])
            self._pieces = []
        if rest:
            self._pieces.append(rest)
        return [line for line in ended if line]
