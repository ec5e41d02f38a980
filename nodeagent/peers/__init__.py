"""Nodes that hold a model give it to nodes that do not: one fetch from the origin per model and cluster."""
