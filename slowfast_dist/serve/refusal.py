"""What the server answers where it gives no prediction."""


class Refusal(Exception):
    """An HTTP ``status`` and one line for people, which the page shows as it is."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, line)
        self.status = status
        self.line = line

    @property
    def headers(self) -> dict[str, str]:
        """Those of HTTP that go with it."""
        return {"Retry-After": "10"} if self.status == 429 else {}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""
