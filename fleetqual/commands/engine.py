"""Environments of engines."""

from typing import Annotated

import typer

from fleetqual.commands.app import UNJUDGED, Json, engine
from fleetqual.commands.output import print_json, print_table


@engine.command("install")
def install_engine(
    spec: Annotated[str, typer.Argument(metavar="ENGINE==VERSION", help="What to install.")],
    backend: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, rocm or metal; what this machine has if left out."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make it anew where it was made otherwise.")
    ] = False,
) -> None:
    """Install an engine in an environment of its own."""
    from cluster.environments.install import NotInstalled, install

    try:
        typer.echo(install(spec, backend, replace=replace))
    except NotInstalled as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(UNJUDGED) from error


@engine.command("list")
def list_engines(as_json: Json = False) -> None:
    """The environments of engines on this machine."""
    from cluster.environments.interpreter import environments_root
    from cluster.environments.inventory import environments

    found = [e.model_dump(mode="json") for e in environments()]
    if as_json:
        print_json(found)
    elif found:
        columns = ["engine", "version", "backend", "serving", "packages", "size", "state", "where"]
        size = [f"{e['size'] / 2**20:,.0f} MiB" for e in found]
        shown = [
            {**e, "serving": ", ".join(e["serving"]), "size": s}
            for e, s in zip(found, size, strict=True)
        ]
        print_table(columns, [[e[column] for column in columns] for e in shown])
    else:
        typer.echo(f"no environments in {environments_root()}; `fleetqual doctor` shows how to add")


@engine.command("stages")
def show_stages(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the documentation's tables.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Which stage of which engine is seen how, and through which call."""
    from cluster.environments import support_table as support

    found = [row.model_dump(mode="json") for row in support.stages()]
    if markdown:
        typer.echo(support.markdown(), nl=False)
    elif as_json:
        print_json(found)
    else:
        print_table(list(support.Seen.model_fields), [list(row.values()) for row in found])


@engine.command("remove")
def remove_engine(
    spec: Annotated[str, typer.Argument(metavar="ENGINE==VERSION", help="What to remove.")],
) -> None:
    """Remove an engine's environment, at once."""
    from cluster.environments.inventory import remove

    gone = remove(spec)
    version, size = gone.version or "of unknown version", gone.size / 2**20
    typer.echo(f"removed {gone.engine} {version}: {gone.where} ({size:,.0f} MiB)")
