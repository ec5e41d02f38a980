"""Real traffic from files: every format met in the field, streamed as columns; or one line that says what is wrong."""

from .chunk import Blocks, Chunk, joined
from .formats import FORMATS, Format, Trace, detect, open_trace, read_arrivals
from .rates import Drawing

__all__ = [
    "FORMATS",
    "Blocks",
    "Chunk",
    "Drawing",
    "Format",
    "Trace",
    "detect",
    "joined",
    "open_trace",
    "read_arrivals",
]
