"""What `warmtide cache` does: the same words on a folder here and on a cluster."""
