"""recil ui: the MLflow server on the store that recil uses, with two processes instead of ten."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import click

from recil.cli.options import ending_politely, manners, tracking_uri
from recil.errors import InputError


@click.command()
@click.option("--port", default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@tracking_uri
@manners
def ui(port: int, host: str, tracking_uri: str | None) -> None:
    """Serve the MLflow UI and print where to look. Ctrl-C ends it.

    \b
    recil ui
    recil ui --port 5001 --tracking-uri sqlite:///elsewhere/mlflow.db
    """
    from recil.track.store import prepare_store, resolve_store

    store = resolve_store(tracking_uri)
    if store.path is None and store.uri.startswith(("http://", "https://")):
        click.echo(f"{store.uri}/#/experiments?workflowType=machine_learning")
        return
    check_port(host, port)
    prepare_store(store)
    click.echo(f"http://{host}:{port}/#/experiments?workflowType=machine_learning")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
    if store.artifacts is not None:
        command += ["--default-artifact-root", store.artifacts.as_uri()]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    server = subprocess.Popen(command, env=environment)
    try:
        with ending_politely():
            code = server.wait()
    except KeyboardInterrupt:
        server.terminate()  # at a terminal Ctrl-C has reached it, too; else nobody has told it
        server.wait()
        return
    if code:
        raise InputError("recil ui", f"the MLflow server ended with {code}", "its own message is above")


def check_port(host: str, port: int) -> None:
    """Refuses a port that another program has, instead of letting the server fail seconds later."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise InputError(
            "--port", f"{host}:{port} cannot be used ({error.strerror})", "choose another --port"
        ) from error
