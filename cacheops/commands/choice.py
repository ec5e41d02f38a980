"""Which model a word on the command line means: a key, the beginning of one, or a URI."""

import re
from collections.abc import Collection

from cacheops.errors import InvalidRequestError
from cacheops.guard import shown
from cacheops.model import STORAGE_KEY_HEX, storage_key
from cacheops.uri import parse_uri

_KEY_START = re.compile(rf"^[0-9a-f]{{4,{STORAGE_KEY_HEX}}}$")


def key_of(word: str, held: Collection[str]) -> str:
    """The key of a model; InvalidRequestError when a word means none of those held, or several."""
    if "://" in word:
        parse_uri(word)
        return storage_key(word)
    if not _KEY_START.match(word):
        raise InvalidRequestError(f"model {shown(word)}: neither a URI nor a key of hexadecimal digits, see `ls`")
    found = sorted(key for key in held if key.startswith(word))
    if len(found) != 1:
        words = f"could be {', '.join(found)}" if found else "no model with this key is here, see `ls`"
        raise InvalidRequestError(f"model {word}: {words}")
    return found[0]
