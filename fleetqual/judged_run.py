"""A run that is judged at once: its verdicts are printed and its page is written."""

import typer

from analysis.judging.judge import open_judged
from analysis.showing.check import print_verdicts
from analysis.showing.report import write_page
from cluster.running.run import RunOptions, run_matrix
from runner.stored.store import Store


def run_and_judge(options: RunOptions, *, as_json: bool) -> int:
    """Run a matrix, print its verdicts and the path of its page; return the exit code.

    Raises:
        UserError: the matrix, plan or results root is wrong.
    """
    ran = run_matrix(options)
    store = Store(options.results)
    with open_judged(store, ran.run_id) as catalog:
        code = print_verdicts(store, catalog, ran.run_id, as_json=as_json)
        written = write_page(store, catalog, ran.run_id)
    typer.echo(f"run {ran.run_id} · report {written}", err=as_json)
    return code
