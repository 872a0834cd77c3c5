"""`aigq allow-list`: what lists may hold. docs/allow-list.md."""

from pathlib import Path

import typer

app = typer.Typer()


@app.command("allow-list")
def allow_list(
    archive: str = typer.Option(..., envvar="AIGQ_ARCHIVE", help="Folder of the archive, or its URL."),
    out: Path = typer.Option(..., help="File to write: allow_list.parquet in the folder of a bundle, or any other."),
    shoppers: int = typer.Option(5, min=1, help="A query counts from so many shoppers on."),
    until: str = typer.Option("", help="Only searches before it (log clock): ISO with zone, or epoch milliseconds."),
    block_list: str = typer.Option("", help="File of queries and words that are never shown, one a line."),
) -> None:
    """Counts which queries enough shoppers have searched: the only ones that lists may hold where the file serves."""
    from inference.output import read_block_list
    from pipelines.build_allow_list import build_allow_list
    from transforms.log_position import parse_time_ms

    blocked = read_block_list(block_list) if block_list else frozenset()
    counted = build_allow_list(archive, shoppers, parse_time_ms(until) if until else 0, blocked)
    counted.allowed.write(out)
    typer.echo(
        f"{out}: {len(counted.allowed.rows):,} of {counted.queries:,} queries were searched by at least {shoppers} of "
        f"{counted.shoppers:,} shoppers; {out.stat().st_size:,} bytes, digest {counted.allowed.facts.digest[:12]}"
    )
