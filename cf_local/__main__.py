"""``python -m cf_local`` is ``cf-local``."""

from cf_local.cli.main import main

main(prog_name="cf-local")
