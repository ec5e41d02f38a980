"""One module for each word after `warmtide sim`: `add(parser)` names its options, `run(options)` does it."""
