"""What the child tells its supervisor, without the one secret that it may know."""

from typing import Any, BinaryIO

from runner.engines.protocol import Arrays, write_frame
from runner.engines.redaction import Redaction


class Events:
    """Writes frames; a server's API key is taken out of every text in them."""

    def __init__(self, stream: BinaryIO, secret: str | None = None) -> None:
        self._stream, self._redaction = stream, Redaction(secret)

    def write(self, header: dict[str, Any], arrays: Arrays | None = None) -> None:
        """Write one event."""
        if self._redaction:
            header = self._redaction.value(header)
        write_frame(self._stream, header, arrays)
