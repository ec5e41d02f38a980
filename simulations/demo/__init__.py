"""`warmtide demo`: an hour of real traffic in 90 seconds, scaled by the real controller on an embedded cluster."""
