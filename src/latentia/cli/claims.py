"""`latentia claims …`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from latentia.cli.terminal import progress, say, stop

claims = typer.Typer(help="What publications say of the methods here, measured again.", no_args_is_help=True)


@claims.command("list")
def list_claims() -> None:
    """List the claims, with what they are measured on."""
    from rich.console import Console
    from rich.table import Table

    from latentia.claims import all_claims

    table = Table("claim", "method", "data", "budgets")
    for claim in all_claims().values():
        table.add_row(claim.name, claim.method, claim.data, ", ".join(claim.budgets))
    Console().print(table)


@claims.command("run")
def run_claim(
    name: Annotated[str, typer.Argument(help="as `latentia claims list` has it")],
    budget: Annotated[str, typer.Option(help="quick (about a minute), full (the evidence) or gpu")] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="folder of the cells", show_default="runs/claims/NAME-BUDGET")
    ] = None,
    results: Annotated[Path, typer.Option(help="where to store the result of a full run")] = Path("claims/results"),
    resume: Annotated[bool, typer.Option("--resume", help="keep the cells that are there")] = False,
) -> None:
    """Run a claim, say whether it holds, and store the result; that of a quick run only beside its cells."""
    from rich.console import Console

    from latentia.claims import all_claims
    from latentia.claims import run_claim as run

    known = all_claims()
    if name not in known:
        raise ValueError(f"there is no claim {name!r}, only {', '.join(known)}")
    folder = out or Path("runs") / "claims" / f"{name}-{budget}"
    console = Console()
    with progress(console, "cells") as told:
        try:
            result = run(known[name], budget, folder, resume=resume, progress=told)
        except KeyboardInterrupt:
            stop("interrupted; go on with the same command and --resume", code=130)
    path = (folder if budget == "quick" else results) / ("result.json" if budget == "quick" else f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for c in result["comparisons"]:
        interval = f"{c['mean']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]"
        say(console, f"{c['better']} - {c['worse']}: {interval}, {c['verdict']}")
    say(console, f"{name}: {result['verdict']} ({budget}, {result['seeds']} seeds)\nresult   {path}")


@claims.command("table")
def claims_table(
    results: Annotated[Path, typer.Option(help="folder of stored results")] = Path("claims/results"),
    out: Annotated[Path, typer.Option(help="page to write")] = Path("docs/claims.md"),
) -> None:
    """Write the page of all claims from the stored results."""
    from latentia.claims.page import claims_page, read_results

    found = read_results(results)
    out.write_text(claims_page(found), encoding="utf-8")
    print(f"{out}: {len(found)} claims")
