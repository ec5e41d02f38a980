"""Whole numbers as options."""

import argparse


def count(text: str) -> int:
    """At least one; argparse tells the user otherwise."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number ≥ 1")
    return int(text)


def seed(text: str) -> int:
    """Of a random generator, which takes none below zero."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number ≥ 0")
    return int(text)
