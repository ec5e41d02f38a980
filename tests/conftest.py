"""What holds for every test run: how hypothesis searches, and what the run says of skipped tests at its end."""

from collections import Counter

import pytest
from hypothesis import settings

# No deadline: other processes share the cores. Derandomised: a red run is red again.
settings.register_profile("warmtide", deadline=None, derandomize=True)
settings.load_profile("warmtide")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per reason, so that a run that skipped half of itself cannot look complete."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")
