"""Model caches: which node should hold which model, told to the nodes' agents, and what became of it."""
