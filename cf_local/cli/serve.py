"""``cf-local serve``: serves fusions over HTTP."""

import logging
import sys
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import Any

import click

from cf_local.cli import completing
from cf_local.cli.fetching import fetch_missing
from cf_local.cli.options import load_options
from cf_local.errors import CfLocalError, InputError
from cf_local.progress import never
from cf_local.registry.registry import load_registry

_NEEDED = ("fastapi", "prometheus_client", "uvicorn")


@click.command()
@click.argument("names", metavar="[MODEL]...", nargs=-1, shell_complete=completing.names)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8642,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="CF_LOCAL_API_KEY",
    help="Key that requests must send. Prefer CF_LOCAL_API_KEY: other users see command lines.",
)
@click.option(
    "--parallel",
    "n_slots",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Answers written at once; each needs memory for its own context.",
)
@click.option(
    "--queue",
    "n_queue",
    type=click.IntRange(0),
    default=64,
    show_default=True,
    help="Requests that may wait for a slot; further ones get status 429.",
)
@click.option(
    "--idle",
    "idle_minutes",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    help="Unload models that are unused for this long; 0 keeps them.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for answering a request.",
)
@click.option(
    "--grace",
    "shutdown_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for running answers after Ctrl-C.",
)
@click.option(
    "--allow-origin",
    "allowed_origins",
    metavar="ORIGIN",
    multiple=True,
    help="Also accept requests from pages of https://this.site ('*' for any); repeatable.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="Also accept requests to this host name, such as that of a proxy; repeatable.",
)
@click.option(
    "--alias",
    "aliases",
    metavar="NAME=MODEL",
    multiple=True,
    help="Another name for a model, as in gpt-4o-mini=laptop or fast=laptop:rerank; repeatable.",
)
@click.option(
    "--any-model",
    "answers_any",
    is_flag=True,
    help="Answer requests for unknown models with the first MODEL.",
)
@click.option(
    "--strict",
    "is_strict",
    is_flag=True,
    help="Refuse requests with parameters that have no effect here, instead of ignoring these.",
)
@click.option(
    "--ray",
    "cluster",
    metavar="ADDRESS",
    help="Keep replicas of each model on this Ray cluster (see docs/server.md).",
)
@click.option(
    "--min-replicas",
    "n_min_replicas",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With --ray: replicas of a model that always run.",
)
@click.option(
    "--max-replicas",
    "n_max_replicas",
    type=click.IntRange(1),
    help="With --ray: most replicas of a model; by default, as many as the cluster has room for.",
)
@click.option("--log-prompts", "logs_prompts", is_flag=True, help="Write prompts to the log.")
@load_options
def serve(names: tuple[str, ...], idle_minutes: float, **options: Any) -> None:
    """Serve models over HTTP, with a page for chat.

    Speaks the interfaces of OpenAI, Anthropic and Ollama.

    MODEL is the name of a fusion, a source or an embedding model. Loads each at start. The first is
    the default, and only these models and the sources of these fusions are served. Without MODEL,
    serves all models of models.toml that are on this machine, and loads each on demand.

    \b
    cf-local serve
    cf-local serve laptop --parallel 2 --idle 0
    curl http://127.0.0.1:8642/v1/chat/completions -H "Content-Type: application/json" \\
        -d '{"model": "builtin", "messages": [{"role": "user", "content": "What is 7 times 8?"}]}'
    """  # noqa: D301  # click does not rewrap the lines after a backspace
    _check_installed()
    # Imported here: they load the native library and the extra.
    from cf_local.loading.fit import fit
    from cf_local.loading.load import choose
    from cf_local.loading.load_options import LoadOptions
    from cf_local.server.catalogue import kind_of
    from cf_local.server.running import serve as run
    from cf_local.server.serve_options import ServeOptions

    registry = load_registry()
    given = {key.name: options.pop(key.name) for key in fields(LoadOptions) if key.name in options}
    how = ServeOptions(idle_s=60 * idle_minutes, **_checked(options))
    load_options = LoadOptions(**given, n_conversations=how.n_slots)
    kinds = {name: kind_of(registry, name) for name in names}
    chosen = [choose(registry, name, ())[0] for name in names if kinds[name] == "fusion"]
    chosen += [[registry.source(name)] for name in names if kinds[name] == "source"]
    sets = [[spec for spec in specs if not spec.is_on_ray] for specs in chosen]
    for specs in sets if load_options.fit and how.cluster is None else ():
        if any(spec.repo for spec in specs):  # report it before a download
            fit(specs, load_options).check()
    named = [spec for specs in sets for spec in specs if how.cluster is None]
    named += [registry.source(name) for name in names if kinds[name] == "embedding"]
    fetch_missing(named, offline=load_options.offline, is_cancelled=never)
    _log_to_stderr()
    if not how.is_local and how.api_key is None:
        _note(f"Anyone who can reach {how.host} can use this server. Set an --api-key.")
    run(
        registry,
        list(names),
        how,
        # A request never downloads anything: only the user of this machine does. Those who name
        # models for a cluster want them there.
        replace(load_options, offline=load_options.offline or not (how.cluster and names)),
        on_ready=_show_address,
        on_notice=_note,
    )
    if sys.stderr.isatty():
        click.echo(err=True)  # after the ^C of the terminal


def _check_installed() -> None:
    """Raise CfLocalError unless the extra is there."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CfLocalError(
            f'The server needs {" and ".join(missing)}. Install it: pip install "cf-local[server]".'
        )


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with origins as browsers send them, and aliases.

    Raises UsageError and InputError.
    """
    if options["cluster"] is None and options["n_max_replicas"] is not None:
        raise click.UsageError("--max-replicas needs --ray ADDRESS: replicas are on a cluster.")
    if options["cluster"] is None and options["n_min_replicas"] != 1:
        raise click.UsageError("--min-replicas needs --ray ADDRESS: replicas are on a cluster.")
    origins = tuple(origin.rstrip("/") for origin in options.pop("allowed_origins"))
    for origin in origins:
        is_plain = origin.startswith(("http://", "https://")) and origin.count("/") == 2
        if origin not in ("*", "null") and not is_plain:
            raise InputError(f"--allow-origin {origin}: an origin looks like https://this.site.")
    aliases = dict[str, str]()
    for given in options.pop("aliases"):
        alias, _, model = given.partition("=")
        if not alias or not model:
            raise InputError(f"--alias {given}: an alias looks like NAME=MODEL.")
        aliases[alias] = model
    if options["api_key"] is not None and not options["api_key"].strip():
        raise InputError(
            "The API key is empty. Set it, or leave out --api-key and CF_LOCAL_API_KEY."
        )
    return options | {"allowed_origins": origins, "aliases": aliases}


def _log_to_stderr() -> None:
    """Log a line per request, and failures, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (("cf_local", logging.WARNING), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("cf_local.server").setLevel(logging.INFO)  # llama.cpp logs much more


def _show_address(url: str) -> None:
    click.echo(
        f"Listening on {url} (OpenAI's interface: {url}v1). Ctrl-C stops the server.", err=True
    )


def _note(text: str) -> None:
    click.echo(f"Note: {text}", err=True)
