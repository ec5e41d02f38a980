"""Two policies of one maker for the two pools of a service whose prefill and decoding are apart."""

from .base import Pair, Policy
from .dynamo import DynamoLoad


def paired(prefill: Policy, decode: Policy) -> Pair:
    """Each scales its pool; Dynamo's planner is one for both, and leaves both as they are while either changes."""
    if isinstance(prefill, DynamoLoad) and isinstance(decode, DynamoLoad):
        decode.settled = prefill.settled
    return Pair(prefill=prefill, decode=decode)
