"""What the emulator refuses, and who acts.

EmulatorError
├── BadOptionsError      settings that a real server would refuse at start-up: a human
└── RefusedError         a request that is answered with an HTTP error: its sender
"""


class EmulatorError(Exception):
    """Root of this package's errors."""


class BadOptionsError(EmulatorError, ValueError):
    """Settings that a real server would refuse at start-up."""


class RefusedError(EmulatorError):
    """A request answered with an HTTP error in OpenAI's form."""

    def __init__(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param

    @classmethod
    def bad(cls, message: str, *, param: str | None = None) -> "RefusedError":
        """400: what was sent is wrong."""
        return cls(400, "BadRequestError", message, param=param)

    def body(self) -> dict[str, dict[str, str | int | None]]:
        """The JSON that vLLM 0.32 answers."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}
