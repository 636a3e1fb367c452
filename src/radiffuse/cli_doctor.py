"""`radiffuse doctor`: what of a cluster is ready for training, and what to do about what is not."""

import sys
from typing import Annotated

import typer

from radiffuse.cli_job import JobSet, JobSource, Json, Kubeconfig, Namespace, client_class
from radiffuse.cli_options import overrides

KfpEndpoint = Annotated[str | None, typer.Option(help="Of KFP's API, such as http://127.0.0.1:8888.")]
CreateBuckets = Annotated[bool, typer.Option("--create-buckets", help="Do make the buckets that the store lacks.")]
Skip = Annotated[list[str] | None, typer.Option("--skip", help="Leave out the check of that name; repeatable.")]


def doctor(
    job: JobSource = "2x32",
    set_job: JobSet = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    kfp_endpoint: KfpEndpoint = None,
    create_buckets: CreateBuckets = False,
    skip: Skip = None,
    as_json: Json = False,
) -> None:
    """Say what of a cluster is ready for a job, and what to do about what is not; changes nothing unless told to.

    Exit code 0: ready, perhaps with warnings; 1: something failed.
    """
    client_class()
    from radiffuse.doctor.checks import CHECKS
    from radiffuse.doctor.examine import examine
    from radiffuse.doctor.finding import Verdict
    from radiffuse.doctor.report import as_json as report_as_json
    from radiffuse.doctor.report import lines, sum_line
    from radiffuse.doctor.surroundings import Surroundings, examined_job

    width, has_colour = max(len(check.name) for check in CHECKS), sys.stdout.isatty()
    results, examined = [], examined_job(job, overrides(set_job))
    with Surroundings(examined, namespace, kubeconfig, kfp_endpoint, create_buckets) as surroundings:
        for result in examine(surroundings, CHECKS, overrides(skip)):
            results.append(result)
            if not as_json:
                typer.echo("\n".join(lines(result, width, has_colour)))
        if as_json:
            typer.echo(report_as_json(results, *surroundings.place, job))
        else:
            typer.echo(f"\n{sum_line(results)}")
    raise typer.Exit(1 if any(result.verdict is Verdict.failed for result in results) else 0)
