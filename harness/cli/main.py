"""``harness``: compare LLM serving systems on simulated or real GPU clusters, from one sweep file."""

from __future__ import annotations

import sys

import typer

from harness.cli import (
    accuracy,
    bench,
    check,
    deploy,
    fidelity,
    init,
    loadtest,
    ls,
    model,
    plan,
    plot,
    profile,
    run,
    schema,
    serve,
    show,
    simulate,
    status,
    trace,
    validate,
)
from harness.cli.exits import Exit

EPILOG = (
    "Exit codes: 0 all well; 1 some cells failed; 2 bad input (a sweep file, an option); "
    "3 a check failed; 130 interrupted."
)

app = typer.Typer(
    name="harness",
    help="Compare LLM serving systems on simulated or real GPU clusters, from one sweep file.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (run.run, init.init, validate.validate, status.status, show.show, plot.plot, plot.report, check.check):
    app.command()(command)
app.command()(accuracy.accuracy)
app.command()(profile.profile)
app.command()(serve.serve)
app.command()(deploy.deploy)
app.command()(loadtest.loadtest)
app.command()(fidelity.fidelity)
app.command()(plan.plan)
app.command()(simulate.simulate)
app.command(name="ls")(ls.ls)
app.command()(schema.schema)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench.bench)
app.add_typer(trace.app, name="trace")
app.add_typer(model.app, name="model")


def main() -> None:
    """The console script."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except (ValueError, RuntimeError) as error:
        sys.exit(_explained(error))


def _explained(error: Exception) -> int:
    """Say what is wrong with the input; anything else is a defect of ours, and keeps its traceback."""
    from thunderserve.spec.errors import SpecError

    if not isinstance(error, SpecError) and type(error).__name__ != "BusyError":
        raise error
    typer.echo(f"error: {error}", err=True)
    return Exit.BAD_INPUT


if __name__ == "__main__":
    main()
