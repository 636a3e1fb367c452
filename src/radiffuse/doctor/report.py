"""The doctor's report: lines for people, each with what to do below it, and the same as JSON."""

import json
from collections import Counter
from collections.abc import Sequence

from radiffuse.doctor.examine import LEFT_OUT, Result
from radiffuse.doctor.finding import Verdict

MARKS = {Verdict.ok: "ok", Verdict.warning: "warning", Verdict.failed: "FAILED", Verdict.skipped: "skipped"}
COLOURS = {Verdict.ok: 32, Verdict.warning: 33, Verdict.failed: 31, Verdict.skipped: 2}
"""Of a terminal (SGR): green, yellow, red, faint."""
MARK_WIDTH = max(map(len, MARKS.values()))


def lines(result: Result, name_width: int, has_colour: bool) -> list[str]:
    """One line for what was found, and one for each of what to do."""
    mark = f"{MARKS[result.verdict]:<{MARK_WIDTH}}"
    if has_colour:
        mark = f"\x1b[{COLOURS[result.verdict]}m{mark}\x1b[0m"
    indent = " " * (MARK_WIDTH + 2 + name_width + 2)
    fix = result.finding.fix.splitlines()
    return [
        f"{mark}  {result.name:<{name_width}}  {result.finding.text}",
        *(f"{indent}-> {line}" for line in fix[:1]),
    ] + [f"{indent}   {line}" for line in fix[1:]]


def sum_line(results: Sequence[Result]) -> str:
    """How many of each verdict, and what that means."""
    counts = Counter(result.verdict for result in results)
    warnings = "warning" if counts[Verdict.warning] == 1 else "warnings"
    words = {verdict: verdict.value for verdict in Verdict} | {Verdict.warning: warnings}
    listed = ", ".join(f"{counts[verdict]} {word}" for verdict, word in words.items())
    if counts[Verdict.failed]:
        return f"{listed}: not ready"
    limit = ", as far as this account may look" if any(result.finding.is_hidden for result in results) else ""
    limit += ", but for what was left out" if any(result.finding == LEFT_OUT for result in results) else ""
    return f"{listed}: ready to train{limit}"


def as_json(results: Sequence[Result], server: str | None, namespace: str | None, job: str) -> str:
    """The whole report as one document; docs/doctor.md describes it."""
    counts = Counter(result.verdict for result in results)
    document = {
        "server": server,
        "namespace": namespace,
        "job": job,
        "is_ready": counts[Verdict.failed] == 0,
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
        "checks": [
            {
                "name": result.name,
                "verdict": result.verdict.value,
                "finding": result.finding.text,
                "fix": result.finding.fix or None,
            }
            for result in results
        ],
    }
    return json.dumps(document, indent=2)
