"""An emulated vLLM server: HTTP interface, metrics page and SIGTERM behaviour of 0.32, timing of the model."""

from .errors import BadOptionsError, EmulatorError, RefusedError
from .options import ServerOptions, parse_options
from .page import PageFaults
from .runtime import EmulatorRuntime
from .server import VLLMEmulator, serving

__all__ = [
    "BadOptionsError",
    "EmulatorError",
    "EmulatorRuntime",
    "PageFaults",
    "RefusedError",
    "ServerOptions",
    "VLLMEmulator",
    "parse_options",
    "serving",
]
