"""`radiffuse store`: serve one here, make its buckets, delete an output. Each verb parses, calls and prints."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from radiffuse.errors import ConfigError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The S3 store.")


@app.command("serve", epilog="Example: radiffuse store serve --dir store-data")
def serve(
    dir_: Annotated[Path, typer.Option("--dir", help="Where the server keeps its data and its credentials.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 0,
) -> None:
    """Serve a real S3 store on 127.0.0.1 until interrupted; credentials go to a private file in --dir."""
    from radiffuse.embedded_store import serve_until_interrupted

    serve_until_interrupted(dir_, port)


@app.command("init", epilog="Example: radiffuse store init")
def init(
    wait_seconds: Annotated[float, typer.Option(min=0, help="Wait so long for a store that does not answer yet.")] = 0,
) -> None:
    """Create the buckets that radiffuse writes to, where they are missing."""
    from radiffuse.buckets import create_buckets
    from radiffuse.storage import open_store

    for bucket in create_buckets(open_store(), wait_seconds):
        typer.echo(f"created s3://{bucket}")


@app.command("delete", epilog="Example: radiffuse store delete s3://models/demo/0123456789abcdef --yes")
def delete(
    uri: Annotated[str, typer.Argument(help="s3://bucket/name/digest of an output, or a run's checkpoints.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete one output, its manifest first; the step that made it then makes it anew. Nothing brings it back."""
    from radiffuse.deletion import find_objects
    from radiffuse.storage import open_store

    store, uri = open_store(), uri.rstrip("/")
    objects = find_objects(store, uri)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"{uri} has {len(objects)} objects; --yes deletes them where nobody can be asked")
        typer.confirm(f"Delete {uri} with its {len(objects)} objects?", abort=True)
    store.delete(objects)  # manifests first: interrupted, it leaves nothing that a step takes for complete
    typer.echo(f"deleted {uri} objects={len(objects)}")
