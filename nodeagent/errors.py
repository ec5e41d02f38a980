"""What can go wrong in the node agent, by who has to act. Trouble with a model's bytes is `cacheops.errors`.

AgentError
├── BadStartError   a human started it wrongly: a kubeconfig or an option that cannot be used
└── ApiError        the Kubernetes API said no, or nothing (code 0): tried again, later and later
    └── NotThereError   404: no such object, or no such kind of object
"""


class AgentError(Exception):
    """Everything the agent raises on purpose."""


class BadStartError(AgentError):
    """It cannot run like this."""


class ApiError(AgentError):
    """A call failed; `code` is the HTTP status, 0 without an answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotThereError(ApiError):
    """What was asked for does not exist."""
