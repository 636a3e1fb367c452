"""`make chart-scan`: a policy checker over what the chart makes in each mode; each exception has a reason.

It is fetched on first use into an environment of its own in the cache, since it is 200 MB and none of ours.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from radiffuse.errors import RadiffuseError
from radiffuse.local_files import folder_lock
from tests.charts.rendering import MODES, ROOT, rendered_text
from tests.cluster.toolchain import ToolchainError, cluster_cache

CHECKOV = "checkov==3.3.30"
EXCEPTIONS = ROOT / "charts" / "policy_exceptions.yaml"
FETCH_SECONDS = 900.0
SCAN_SECONDS = 600.0


@dataclass(frozen=True)
class Finding:
    """A check that an object did not pass, or a line that looks like a secret, whose kind is empty."""

    check: str
    title: str
    kind: str
    where: str
    line: str = ""


def checkov() -> Path:
    """The checker, fetched if need be; raises ToolchainError."""
    folder = cluster_cache() / CHECKOV.replace("==", "-")
    program = folder / "bin" / "checkov"
    with folder_lock(cluster_cache()):
        if not program.is_file():
            _run([sys.executable, "-m", "venv", "--clear", str(folder)], FETCH_SECONDS)
            _run([str(folder / "bin" / "pip"), "install", "--quiet", CHECKOV], FETCH_SECONDS)
    return program


def scan(texts: dict[str, str]) -> list[Finding]:
    """What the checker finds in YAML, by name of the text; raises ToolchainError when it cannot be asked."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, f"{name}.yaml").write_text(text, encoding="utf-8")
        command = [str(checkov()), "--directory", folder, "--framework", "kubernetes", "secrets"]
        # It would ask its maker's server for guides, and for the severity of findings.
        options = ["--compact", "--quiet", "--soft-fail", "--skip-download", "--output", "json"]
        reports = json.loads(_run([*command, *options], SCAN_SECONDS))
    one_or_more = reports if isinstance(reports, list) else [reports]
    return [_finding(each, texts) for report in one_or_more for each in report["results"]["failed_checks"]]


def _finding(found: dict[str, Any], texts: dict[str, str]) -> Finding:
    path, number = Path(found["file_path"]), found["file_line_range"][0]
    check, title, where = found["check_id"], found["check_name"], f"{path.name}:{number}"
    if check.startswith("CKV_SECRET"):
        return Finding(check, title, "", where, texts[path.stem].splitlines()[number - 1].strip())
    return Finding(check, title, found["resource"].partition(".")[0], where)


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=os.environ | {"LOG_LEVEL": "ERROR"}
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"`{' '.join(command[:4])}` took over {seconds:.0f} s") from error
    if done.returncode != 0:
        raise ToolchainError(f"`{' '.join(command[:4])}` failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def judged(findings: list[Finding], exceptions: list[dict[str, Any]]) -> list[str]:
    """One line for each finding without an exception, and for each exception that nothing needs."""
    wrong = [each for each in findings if not any(_is_meant(each, exception) for exception in exceptions)]
    idle = [each for each in exceptions if not any(_is_meant(finding, each) for finding in findings)]
    found = [f"{each.where}: {each.kind or each.line}: {each.title} ({each.check})" for each in wrong]
    return found + [f"{each['check']}: an exception that nothing needs" for each in idle]


def _is_meant(finding: Finding, exception: dict[str, Any]) -> bool:
    if finding.check != exception["check"]:
        return False
    if finding.kind:
        return finding.kind in exception["kinds"]
    return re.fullmatch(exception["lines"], finding.line) is not None


def main() -> int:
    """Exit code 0 when nothing was found but what has a reason."""
    try:
        findings = scan({mode: rendered_text(mode) for mode in MODES})
    except (ToolchainError, RadiffuseError) as error:
        print(error, file=sys.stderr)
        return 1
    problems = judged(findings, yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")))
    print("\n".join(problems) or f"{len(findings)} findings in {len(MODES)} modes, all of them with a reason")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
