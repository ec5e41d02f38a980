"""The front door: `warmtide demo | controller | why | check`. Sub-commands load their code only when called."""


def main() -> None:
    """Replaced by the Typer application."""
    raise SystemExit("not yet")
