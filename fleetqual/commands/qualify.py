"""``fleetqual qualify`` and ``init``: your own model, with nothing written by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetqual.commands.app import Json, Results, app

if TYPE_CHECKING:
    from fleetqual.qualify.prepare import Asked

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A GGUF file, a folder, org/name@rev, or org/repo:QUANT."),
]
Variants = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[VARIANT]...",
        help="Files or folders to serve, made from MODEL. Default: MODEL itself.",
    ),
]
Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="Engine that serves the model; repeat it for several. Default: all that are "
        "installed here and read the model.",
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda, … Default: the first one of this machine."),
]
Prompts = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Your own prompts (YAML); each is tested in four stages."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the model from the hub if it is not here.")
]
NoInstall = Annotated[
    bool,
    typer.Option("--no-install", help="Stop if an engine is missing; do not install it."),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Replace a matrix and a suite that you edited.")
]


@app.command()
def qualify(
    model: Model,
    variants: Variants = None,
    engines: Engines = None,
    backend: Backend = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time to spend, such as 5m. Default: no limit."),
    ] = None,
    prompts: Prompts = None,
    download: Download = False,
    no_install: NoInstall = False,
    fresh: Fresh = False,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Qualify your own model.

    It derives a suite from the model's files, makes the reference, runs every engine here that
    reads the model, and prints the verdict; exit codes as for `fleetqual check`."""
    from fleetqual.qualify.run import qualify_model

    asked = _asked(model, variants, engines, backend, prompts, results, download, no_install, fresh)
    raise typer.Exit(qualify_model(asked, budget, as_json=as_json))


@app.command()
def init(
    model: Model,
    variants: Variants = None,
    engines: Engines = None,
    backend: Backend = None,
    prompts: Prompts = None,
    download: Download = False,
    no_install: NoInstall = False,
    fresh: Fresh = False,
    results: Results = "results",
) -> None:
    """Write a matrix and a suite for your own model.

    Nothing is run. `fleetqual run` takes the matrix, whose path is printed."""
    from fleetqual.qualify.prepare import prepare
    from fleetqual.qualify.run import say

    asked = _asked(model, variants, engines, backend, prompts, results, download, no_install, fresh)
    prepared = prepare(asked, say)
    typer.echo(prepared.write(prepared.ways, prepared.files))


def _asked(
    model: str,
    variants: list[str] | None,
    engines: list[str] | None,
    backend: str | None,
    prompts: Path | None,
    results: str,
    download: bool,
    no_install: bool,
    fresh: bool,
) -> "Asked":
    from fleetqual.qualify.prepare import Asked

    return Asked(
        model=model,
        variants=tuple(variants or ()),
        engines=tuple(engines or ()),
        backend=backend,
        prompts=prompts,
        results=results,
        may_download=download,
        may_install=not no_install,
        fresh=fresh,
    )
