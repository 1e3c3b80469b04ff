"""``fleetqual engine``: the engines' Python environments."""

from typing import Annotated

import typer

from fleetqual.commands.app import Json, engine
from fleetqual.commands.output import print_json, print_table
from suites.exit_codes import UNJUDGED

_COLUMNS = ["engine", "version", "backend", "serving", "packages", "size", "state", "where"]


@engine.command("install")
def install_engine(
    spec: Annotated[
        str, typer.Argument(metavar="ENGINE==VERSION", help="Engine and version to install.")
    ],
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cpu, cuda, rocm or metal. Default: the first one of this machine, "
            "accelerators first.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Reinstall if it was built from a different recipe."),
    ] = False,
) -> None:
    """Install an engine in its own Python environment."""
    from cluster.environments.install import NotInstalled, install

    try:
        typer.echo(install(spec, backend, replace=replace))
    except NotInstalled as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(UNJUDGED) from error


@engine.command("list")
def list_engines(as_json: Json = False) -> None:
    """List the engines' environments on this machine."""
    from cluster.environments.interpreter import environments_root
    from cluster.environments.inventory import environments

    found = [e.model_dump(mode="json") for e in environments()]
    if as_json:
        print_json(found)
    elif found:
        rows = [
            {**e, "serving": ", ".join(e["serving"]), "size": _mebibytes(e["size"])} for e in found
        ]
        print_table(_COLUMNS, [[row[column] for column in _COLUMNS] for row in rows])
    else:
        typer.echo(
            f"no environments in {environments_root()}; `fleetqual doctor` shows how to add one"
        )


@engine.command("stages")
def show_stages(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables of the documentation.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how stages are observed.

    It prints how each stage of each engine is observed, and through which call."""
    from cluster.environments import support_table

    found = [row.model_dump(mode="json") for row in support_table.stages()]
    if markdown:
        typer.echo(support_table.markdown(), nl=False)
    elif as_json:
        print_json(found)
    else:
        columns = list(support_table.StageSupport.model_fields)
        print_table(columns, [list(row.values()) for row in found])


@engine.command("remove")
def remove_engine(
    spec: Annotated[
        str, typer.Argument(metavar="ENGINE==VERSION", help="Engine and version to remove.")
    ],
) -> None:
    """Remove an engine's environment.

    It is removed at once, without a question."""
    from cluster.environments.inventory import remove

    gone = remove(spec)
    version = gone.version or "of unknown version"
    typer.echo(f"removed {gone.engine} {version}: {gone.where} ({_mebibytes(gone.size)})")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
