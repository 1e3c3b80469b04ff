"""How one request to a server can fail."""


class Refused(Exception):
    """The server refused one request (status 4xx); it says nothing about others."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(f"HTTP {status}: {what}")
        self.status = status


class ServerFailure(Exception):
    """The server failed at one request: this case has no answer."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status
