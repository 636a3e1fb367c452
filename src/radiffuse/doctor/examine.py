"""Goes through the checks: each under a deadline, none after one that it depends on has failed, and never raising."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from radiffuse.doctor.finding import Finding, Verdict, failed, skipped
from radiffuse.doctor.surroundings import MayNotLookError, Surroundings
from radiffuse.errors import ConfigError, RadiffuseError

logger = logging.getLogger(__name__)

SECONDS = 30.0
LEFT_OUT = skipped("left out, as asked for")


@dataclass(frozen=True)
class Check:
    """One thing that must be right for training to work."""

    name: str
    look: Callable[[Surroundings], Finding]
    about: str
    """What it looks at, for the documentation."""
    needs: tuple[str, ...] = ()
    """Checks without which this one says nothing."""
    seconds: float = SECONDS
    """It has failed when it has not answered by then."""


@dataclass(frozen=True)
class Result:
    """What a check found."""

    name: str
    finding: Finding

    @property
    def verdict(self) -> Verdict:
        """Of the finding."""
        return self.finding.verdict


def examine(surroundings: Surroundings, checks: Sequence[Check], left_out: Sequence[str] = ()) -> Iterator[Result]:
    """Results in the order of the checks, each as soon as it is known; raises ConfigError for a name that is none."""
    names = [check.name for check in checks]
    if unknown := sorted(set(left_out) - set(names)):
        raise ConfigError(f"no check is named {', '.join(map(repr, unknown))}; there are {', '.join(names)}")
    blocked: dict[str, str] = dict.fromkeys(left_out, "")
    for check in checks:
        finding = _left_out(check, blocked) or _within(check, surroundings)
        if finding.verdict is Verdict.failed:
            blocked[check.name] = f"{check.name} failed"
        yield Result(check.name, finding)


def _left_out(check: Check, blocked: dict[str, str]) -> Finding | None:
    """Why the check is not made, if it is not; what depends on it is then not made either."""
    if check.name in blocked:
        blocked[check.name] = f"{check.name} was left out"
        return LEFT_OUT
    for need in check.needs:
        if need in blocked:
            blocked[check.name] = blocked[need]
            return skipped(f"not looked at, since {blocked[need]}")
    return None


def _within(check: Check, surroundings: Surroundings) -> Finding:
    found: list[Finding] = []
    # A daemon: a server that never answers must not keep the program from ending.
    thread = threading.Thread(target=lambda: found.append(_look(check, surroundings)), daemon=True)
    thread.start()
    thread.join(check.seconds)
    if not found:
        return failed(f"no answer within {check.seconds:.0f} s", "look whether the server is up, and try again")
    return found[0]


def _look(check: Check, surroundings: Surroundings) -> Finding:
    try:
        return check.look(surroundings)
    except MayNotLookError as error:
        where = "cluster-wide" if error.namespace is None else f"in namespace {error.namespace}"
        return Finding(Verdict.skipped, str(error), f"to look, it needs {error.right.line} {where}", is_hidden=True)
    except RadiffuseError as error:
        # Our errors say what is wrong, and after the first semicolon what to do.
        text, _, fix = " ".join(str(error).split()).partition("; ")
        return failed(text, fix)
    except Exception as error:  # a fault of this check says nothing about the others
        logger.debug("check %s", check.name, exc_info=True)
        return failed(
            f"this check is at fault: {type(error).__name__}", "report it with the output of --log-level debug"
        )
