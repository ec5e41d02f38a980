"""The controller process: watches services, decides how many replicas they need, scales them, explains."""
