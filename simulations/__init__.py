"""Offline worlds: replica models, traffic, the embedded cluster and the demo."""
