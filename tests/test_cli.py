import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from radiffuse import __version__, cli
from radiffuse.manifest import load_manifest
from radiffuse.storage import Store
from tests.data import layouts
from tests.tiny import tiny_pipeline

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
RUN_OF_A_JOB = ["--data", "latents.json", "--model", "model.json", "--config", "demo"]
HEAVY = ("torch", "diffusers", "transformers", "numpy", "pyarrow", "PIL", "pydantic", "yaml", "minio", "kfp")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, sub in command.commands.items():
            yield from commands(sub, (*path, name))
    else:
        yield path, command


VERBS = dict(commands(typer.main.get_command(cli.app)))


def parse(words: list[str]) -> None:
    """Everything that the command line checks before a verb begins; raises SystemExit with 2 where it is misused."""
    command = typer.main.get_command(cli.app)
    for _, verb in commands(command):
        verb.callback = lambda **_: None
    command.main(words, prog_name="radiffuse", standalone_mode=False)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit code of the program in this process."""
    monkeypatch.setattr(sys, "argv", ["radiffuse", *words])
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def shell_lines(page: Path) -> Iterator[str]:
    """Lines of the page's code blocks, joined where they are continued, without comments and prompts."""
    for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()


def documented(program: str) -> list[tuple[str, str]]:
    found = ((page.name, line) for page in PAGES for line in shell_lines(page))
    return [(page, line) for page, line in found if line.startswith(f"{program} ")]


@pytest.mark.parametrize(("page", "line"), documented("radiffuse"))
def test_every_documented_command_parses(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    parse([re.sub(r"\$[A-Z_]+", "a-name", word) for word in words])  # what a person has set beforehand


@pytest.mark.parametrize(("page", "line"), documented("make"))
def test_every_documented_make_target_exists(page: str, line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = [word for word in shlex.split(line, comments=True)[1:] if not re.match(r"[A-Z]+=", word)]
    assert words and set(words) <= set(targets)


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_says_what_it_does_with_an_example_that_parses(path: tuple[str, ...]) -> None:
    verb = VERBS[path]
    assert verb.help
    example = verb.epilog.removeprefix("Example: ")
    assert example.startswith(" ".join(("radiffuse", *path)))
    parse(shlex.split(example)[1:])


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_option_of_a_verb_has_a_meaning(path: tuple[str, ...]) -> None:
    options = [parameter for parameter in VERBS[path].params if parameter.name != "help"]
    assert [option.name for option in options if not getattr(option, "help", None)] == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['radiffuse', '--help']\n"
        "from radiffuse.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ingest" in done.stdout
    assert done.stderr == "[]\n"


def test_a_verb_that_worked_exits_with_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"radiffuse {__version__}\n"


def test_bad_data_exits_with_1_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "inspect", "chexpert", "--source", str(tmp_path / "gone")) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "gone" in error
    assert "\n" not in error


@pytest.mark.parametrize("words", [["--nonsense"], ["nonsense"], ["sample", "--role", "middle"], ["ingest"]])
def test_an_unknown_option_verb_or_choice_exits_with_2(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    assert run(monkeypatch, *words) == 2


def test_an_unknown_log_level_is_refused_with_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--log-level", "loud", "config") == 2
    assert "--log-level 'loud' is not one of debug, info, warning, error" in capsys.readouterr().err


def test_an_unset_store_exits_with_2_and_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("MINIO_ENDPOINT", "MINIO_ENDPOINT_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert run(monkeypatch, "stage", "tiny", "--out", str(tmp_path / "model.json")) == 2
    assert "MINIO_ENDPOINT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", r"--out /.* is a folder; it must name a file"),
        ("file/below/out.json", r"--out .*out.json cannot be written: .*/file is not a folder"),
        ("/proc/x", "--out /proc/x cannot be written: /proc takes no new file"),
        ("/dev/full", "--out /dev/full is a pipe or a device; it must name a file"),
    ],
    ids=["a-folder", "below-a-file", "below-what-takes-none", "a-device"],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, out: str, message: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("MINIO_ENDPOINT", raising=False)  # that it is missing would be found next
    assert run(monkeypatch, "stage", "tiny", "--out", str(tmp_path / out)) == 2
    assert re.search(f"^error: {message}", capsys.readouterr().err)


def test_every_file_that_a_verb_writes_is_checked_first() -> None:
    options = [option for verb in VERBS.values() for option in verb.params if option.name in ("out", "html", "metrics")]
    unchecked = [option for option in options if option.callback is None and "Folder" not in option.help]
    assert unchecked == []


def test_a_malformed_executor_input_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "model.json"
    assert run(monkeypatch, "stage", "tiny", "--out", str(out), "--executor-input", "{{$}}") == 2
    assert "executor input must be JSON" in capsys.readouterr().err
    assert not out.exists()


def test_config_lists_the_presets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "config") == 0
    assert "demo" in capsys.readouterr().out.split()


def test_config_prints_a_run_that_can_be_read_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(monkeypatch, "config", "demo", "--set", "train.seed=7")
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    run(monkeypatch, "config", str(tmp_path / "run.yaml"), "--json")
    assert json.loads(capsys.readouterr().out)["train"]["seed"] == 7


def test_stage_puts_a_model_into_the_store_and_tells_kfp(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    store_environment: dict[str, str],
) -> None:
    out, output = tmp_path / "model.json", tmp_path / "executor_output.json"
    outputs = {"artifacts": {"model": {"artifacts": [{"name": "model", "uri": str(out)}]}}, "outputFile": str(output)}
    words = ["--out", str(out), "--executor-input", json.dumps({"outputs": outputs}), "--json"]
    assert run(monkeypatch, "stage", str(tiny_pipeline(tmp_path / "tiny")), *words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    (told,) = json.loads(output.read_text())["artifacts"]["model"]["artifacts"]
    assert told["metadata"]["store_uri"] == printed["uri"]


def test_inspect_prints_a_line_per_count_and_json_for_machines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = layouts.write_chexpert(tmp_path, layouts.cohort(healthy=3, effusion=2))
    assert run(monkeypatch, "inspect", "chexpert", "--source", str(source)) == 0
    assert re.search(r"^only_effusion +2$", capsys.readouterr().out, re.MULTILINE)
    run(monkeypatch, "inspect", "chexpert", "--source", str(source), "--json")
    assert json.loads(capsys.readouterr().out)["rows"] == 5


@pytest.mark.usefixtures("store_environment")
def test_store_init_prints_nothing_where_all_buckets_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "store", "init") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("store_environment")
def test_a_deleted_output_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, store: Store
) -> None:
    stage = ("stage", str(tiny_pipeline(tmp_path / "deletable")), "--out", str(tmp_path / "model.json"))
    assert run(monkeypatch, *stage) == 0
    manifest = load_manifest(tmp_path / "model.json")
    store.put_bytes(f"{manifest.uri}/{manifest.objects[0].name}", b"damaged")
    capsys.readouterr()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert run(monkeypatch, "store", "delete", manifest.uri) == 2
    assert "--yes deletes them where nobody can be asked" in capsys.readouterr().err
    assert run(monkeypatch, "store", "delete", f"{manifest.uri}/", "--yes") == 0
    assert capsys.readouterr().out == f"deleted {manifest.uri} objects={len(manifest.objects) + 1}\n"
    assert list(store.list(manifest.uri)) == []
    assert run(monkeypatch, *stage) == 0
    store.fetch(manifest, tmp_path / "intact")


@pytest.mark.usefixtures("store_environment")
def test_only_an_output_is_deleted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    store.put_bytes("s3://models/kept/0123456789abcdef/manifest.json", b"damaged")
    assert run(monkeypatch, "store", "delete", "s3://models/kept", "--yes") == 1
    assert "s3://models/kept is no output, but a folder with 1 objects" in capsys.readouterr().err
    assert run(monkeypatch, "store", "delete", "s3://models/absent/0123456789abcdef", "--yes") == 1
    assert "nothing to delete at s3://models/absent/0123456789abcdef" in capsys.readouterr().err
    assert run(monkeypatch, "store", "delete", "s3://models/kept/0123456789abcdef", "--yes") == 0
    assert list(store.list("s3://models/kept")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["job", "render", "-n", "A_B", *RUN_OF_A_JOB], "--namespace 'A_B' must be a DNS label: lower-case letters"),
        (["job", "submit", "-n", "", *RUN_OF_A_JOB], "--namespace '' must be a DNS label"),
        (["job", "status", "../../../x"], "NAME '../../../x' must be a DNS-1035 label: lower-case letters"),
        (["job", "logs", "a/b"], "NAME 'a/b' must be a DNS-1035 label"),
        (["job", "cancel", ""], "NAME '' must be a DNS-1035 label"),
        (["doctor", "-n", "Team"], "--namespace 'Team' must be a DNS label"),
    ],
)
def test_a_name_that_nothing_in_a_cluster_has_is_refused_before_any_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/absent")  # that it is missing would be found next
    assert run(monkeypatch, *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_output_that_nobody_reads_ends_the_command_without_a_traceback() -> None:
    command = f"'{sys.executable}' -m radiffuse.cli config demo | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_output_that_does_not_fit_is_one_error() -> None:
    command = f"'{sys.executable}' -m radiffuse.cli config demo > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: cannot write: no space is left; free some, or write elsewhere\n",
    )


@pytest.mark.parametrize("words", ["config demo", "job render --data x --model y -c demo", "--version"])
def test_a_closed_output_is_one_error(words: str) -> None:
    command = f"'{sys.executable}' -m radiffuse.cli {words} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: stdout is closed, "), done.stderr
