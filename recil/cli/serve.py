"""recil serve, recil served: a policy behind HTTP, and a log of what it showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recil.cli.options import PATH, common, emit, ending_politely, manners, say, tracking_uri

_SOURCE = "POLICY|MODEL"


@click.command()
@click.argument("source", metavar=_SOURCE)
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 answers other machines, too.")
@click.option("--k", type=click.IntRange(1), help="Items of a slate where a request does not say; as logged.")
@click.option("--greedy", is_flag=True, help="The most probable items, not drawn ones, where a request does not say.")
@click.option("--seed", default=0, show_default=True, help="Drawn slates follow from it, the session and the step.")
@click.option(
    "--log", type=PATH, metavar="FILE", help="Append what is served, a CSV table, and keep rewards beside it."
)
@click.option("--like", type=PATH, metavar="LOG", help="A log that names the categories of the policy's columns.")
@tracking_uri
@manners
def serve(
    source: str,
    port: int,
    host: str,
    k: int | None,
    greedy: bool,
    seed: int,
    log: Path | None,
    like: Path | None,
    tracking_uri: str | None,
) -> None:
    """Serve a saved policy, a folder or a model (models:/NAME@champion), over HTTP. Ctrl-C ends it.

    POST /recommend answers a session so far with a slate, the propensity of each item and the policy's version; POST
    /reward keeps what the slate brought. GET /ping and /version say what is there.

    \b
    recil serve models:/shop@champion --log served.csv
    curl localhost:8000/recommend -d '{"session_id": "s1", "history": [], "k": 3}'
    recil served served.csv models:/shop@champion log
    """
    from recil.track.serve_http import PolicyServer, ServeConfig

    policy = _policy(source, tracking_uri, like)
    draw = "greedy" if greedy else "sample"
    server = PolicyServer(policy, ServeConfig(host, port, k, draw, seed, log, source))  # type: ignore[arg-type]
    click.echo(server.address)
    say(f"policy {policy.version} ({policy.kind}, {len(policy.item_ids):,} items), slates: {draw}")
    try:
        with ending_politely():
            server.serve()
    except KeyboardInterrupt:
        say("ended")


@click.command()
@click.argument("file", type=PATH)
@click.argument("source", metavar=_SOURCE)
@click.argument("folder", type=PATH)
@click.option("--rewards", type=PATH, metavar="FILE", help="What it brought; the table beside FILE when left out.")
@click.option("--like", type=PATH, metavar="LOG", help="A log that names the categories of the policy's columns.")
@tracking_uri
@common
def served(
    file: Path, source: str, folder: Path, rewards: Path | None, like: Path | None, tracking_uri: str | None, form: str
) -> None:
    """Make a log out of what `recil serve --log FILE` wrote, and save it in FOLDER.

    It has the exact propensities of what was shown, so that any policy can be evaluated on it. The policy supplies the
    catalogue and the columns.

    \b
    recil served served.csv models:/shop@champion log
    """
    from recil.track.serve_log import served_log

    log = served_log(file, _policy(source, tracking_uri, like), rewards)
    log.save(folder)
    emit(form, log.summary(), log.summary().to_frame())


def _policy(source: str, tracking_uri: str | None, like: Path | None) -> Any:
    """The policy of a folder, or of a store."""
    from recil.track.serve import ServedPolicy

    named_by = None
    if like is not None:
        from recil.logs.read import read_log

        named_by = read_log(like)
    if not source.startswith(("models:/", "runs:/")):  # a folder needs no store
        return ServedPolicy.load(source, named_by)
    from recil.track.model_fetch import policy_at
    from recil.track.store import prepare_store, resolve_store

    store = resolve_store(tracking_uri)
    prepare_store(store)
    with policy_at(source, store) as folder:
        return ServedPolicy.load(folder, named_by)
