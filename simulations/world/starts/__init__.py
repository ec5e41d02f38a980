"""How long replicas take from being asked for to Ready, and what nodes keep that makes the next start shorter."""
