"""What holds for every run: whom it trusts, how hypothesis searches, how virtual time passes, what ends its report."""

import gc
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

# No test leaves loopback, so none needs the machine's 140 authorities: every program that a test starts, and every
# client that it opens, would read them for a fortieth of a second.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))

# No deadline: other processes share the cores. Derandomised: a red run is red again.
settings.register_profile("warmtide", deadline=None, derandomize=True)
settings.load_profile("warmtide")

# Before it jumps, looptime's clock polls for what may come from outside, 42 times if it is not told. Nothing does: what
# lives in virtual time has no sockets, and threads are waited for. Spinning was a third of the time of these tests.
POLLS_BEFORE_A_JUMP = 1


@pytest.hookimpl(trylast=True)  # after the folders have said which of theirs live in virtual time
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("looptime"):
            item.add_marker(pytest.mark.looptime(noop_cycles=POLLS_BEFORE_A_JUMP))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: without this, each full search for garbage walks thousands of tests and modules."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per reason, so that a run that skipped half of itself cannot look complete."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")
