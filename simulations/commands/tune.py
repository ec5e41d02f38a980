"""`warmtide sim tune`: a ScalingPolicy for this traffic, and what it gains on traffic that nobody tuned it to.

One for each pool where prefill and decoding are both scaled, and one for each of several services on the same nodes.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import yaml

from simulations.commands.counts import count
from simulations.commands.files import check_file, write_file
from simulations.commands.screen import Column, Screen, screen
from simulations.commands.setting import add_setting, scenario_of, setting_of
from simulations.commands.together import checked, together_of
from simulations.errors import INTERRUPTED, UsageError
from simulations.study import Spread, spread_over
from simulations.tuning import (
    GAIN_MIN,
    Courses,
    Documents,
    Goal,
    Judged,
    Search,
    Served,
    Trial,
    documents_at,
    judge,
    split_courses,
    turned,
)

TRIALS_DEFAULT = 120
TRIALS_MAX = 100_000
COURSES_MAX = 100
COURSES_DEFAULT = 2
NAME_DEFAULT = "tuned"
COLUMNS = (Column("trial", 5), Column("in time", 8), Column("GPU-hours", 9), Column("cost vs static", 14))
FILE_HEAD = """\
# For {source}: {says}.
# {verdict}
# It decides and shows what it would do; set mode to direct once it has convinced you.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Untouched and tuned, on what was held out."""

    plain: Judged
    tuned: Judged
    goal: Goal

    @property
    def gains(self) -> bool:
        """More than luck."""
        return self.plain.score - self.tuned.score >= GAIN_MIN

    def text(self) -> str:
        """One sentence."""
        if not self.gains:
            return "Tuning gains nothing on held-out traffic: these are the defaults."
        tuned, plain = self.tuned.whole, self.plain.whole
        less = 1 - tuned.gpu_hours / plain.gpu_hours
        cost = f"{abs(less):.1%} {'fewer' if less >= 0 else 'more'} GPU-hours"
        attained = f"{tuned.attainment_ratio:.2%} in time instead of {plain.attainment_ratio:.2%}"
        return f"On held-out traffic: {cost}, {attained}{''.join(self._missed())}."

    def _missed(self) -> Iterator[str]:
        goal = self.goal.attainment_ratio
        for name, one in self.tuned.services.items():
            if self.goal.cost_ratio is None and one.attainment_ratio < goal:
                yield f"; the goal of {goal:.1%} is missed"
                yield f" by {name} ({one.attainment_ratio:.2%})" if name else ""


def add(parser: argparse.ArgumentParser) -> None:
    """The goal, the effort, and where the policy goes."""
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--attainment", type=float, default=Goal().attainment_ratio, metavar="RATIO", help="of requests, at least cost"
    )
    goal.add_argument("--cost", type=float, metavar="RATIO", help="of a fixed fleet's, with the most requests in time")
    parser.add_argument("--trials", type=int, default=TRIALS_DEFAULT, metavar="N", help=f"default {TRIALS_DEFAULT}")
    parser.add_argument(
        "--courses", type=int, default=COURSES_DEFAULT, metavar="N", help="days or draws to tune on, and to judge by"
    )
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="processes; each takes a course at a time")
    parser.add_argument("--out", type=Path, metavar="FILE.yaml", help="the ScalingPolicies; default: on stdout")
    says = "of the ScalingPolicy; of several, one for each pool or service, how their names begin"
    parser.add_argument("--name", default=NAME_DEFAULT, help=f"{says}; default {NAME_DEFAULT}")
    add_setting(parser)


def run(options: argparse.Namespace) -> int:
    """Search, judge, write; an interrupt judges and writes the best so far."""
    check_file(options.out)
    if not 2 <= options.trials <= TRIALS_MAX or not 1 <= options.courses <= COURSES_MAX:
        raise UsageError(f"--trials must be 2 to {TRIALS_MAX:,} and --courses 1 to {COURSES_MAX}")
    try:
        goal = Goal(attainment_ratio=options.attainment, cost_ratio=options.cost)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    together = together_of(options)
    scenario = scenario_of(options) if together is None else checked(options, together)
    courses = split_courses(scenario, options.seed, options.courses, setting_of)
    sys.stdout.write(f"{scenario.name}: {courses.says}\n")
    best, is_whole = _search(options, courses, goal)
    if best is None:
        return INTERRUPTED
    verdict, found = _judged(options, best, courses, goal)
    _write(options, found, FILE_HEAD.format(source=scenario.name, says=courses.says, verdict=verdict.text()))
    return 0 if is_whole else INTERRUPTED


def _search(options: argparse.Namespace, courses: Courses, goal: Goal) -> tuple[Trial | None, bool]:
    with screen(options.trials, "tuning") as on, _spread(options) as spread:
        search = Search(
            name=options.name,
            courses=courses.trained,
            goal=goal,
            trials_max=options.trials,
            seed=options.seed,
            tell=lambda trial, is_best: _tell(on, trial, is_best=is_best),
            spread=spread,
        )
        on.head(COLUMNS)
        try:
            return search.run(), True
        except KeyboardInterrupt:
            sys.stderr.write("warmtide sim: interrupted; the best so far is kept\n")
            return search.best, False


def _spread(options: argparse.Namespace) -> AbstractContextManager[Spread]:
    """Over no more processes than there are courses."""
    return spread_over(min(options.jobs, options.courses))


def _tell(on: Screen, trial: Trial, *, is_best: bool) -> None:
    on.tell(f"trial {trial.number}", trial.number)
    if is_best:
        on.row(COLUMNS, _values(str(trial.number), trial.judged.whole))
        for line in _turned(trial.documents):
            on.line(f"       {line}")


def _turned(found: Documents) -> Iterator[str]:
    """What is not at its default: once, where that is the same of all parts, else part by part."""
    values = {part: turned(one) for part, one in found.items()}
    first = next(iter(values.values()))
    if all(one == first for one in values.values()):
        values = {"": first}
    for part, knobs in values.items():
        if knobs:
            told = ", ".join(f"{knob} {value:g}" for knob, value in knobs.items())
            yield f"{part}: {told}" if part else told


def _judged(options: argparse.Namespace, best: Trial, courses: Courses, goal: Goal) -> tuple[Verdict, Documents]:
    """The default and the best on what was held out; the one of them that is to be used."""
    plain = documents_at(options.name, courses.trained[0], goal, {})
    services = [f"  {name}" for name in courses.trained[0].services if name]
    columns = (Column("held out", max(map(len, ("defaults", *services))), is_text=True), *COLUMNS[1:])
    judged = []
    with screen(2, "judging") as on, _spread(options) as spread:
        on.line("")
        on.head(columns)
        for says, found in (("defaults", plain), ("tuned", best.documents)):
            judged.append(judge(found, courses.held_out, goal, spread))
            on.row(columns, _values(says, judged[-1].whole))
            for line, one in zip(services, judged[-1].services.values(), strict=False):
                on.row(columns, _values(line, one))
    verdict = Verdict(plain=judged[0], tuned=judged[1], goal=goal)
    sys.stdout.write(f"{verdict.text()}\n")
    return verdict, best.documents if verdict.gains else plain


def _values(first: str, served: Served) -> tuple[str, ...]:
    return (first, f"{served.attainment_ratio:.2%}", f"{served.gpu_hours:.1f}", f"{served.cost_ratio:.2f}")


def _write(options: argparse.Namespace, found: Documents, head: str) -> None:
    text = head + "---\n".join(yaml.safe_dump(one, sort_keys=False, allow_unicode=True) for one in found.values())
    if options.out is None:
        sys.stdout.write(f"\n{text}")
        return
    write_file(options.out, text)
    sys.stdout.write(f"written: {options.out}; kubectl apply -f {options.out}\n")
