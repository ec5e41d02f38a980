"""One node's model cache: what a model consists of, where it lies, how it gets there whole."""
