"""The pure core: what was seen goes in, how many replicas and why comes out. Start at `decide.py`."""
