"""What was measured, and the clock that stamped it."""
