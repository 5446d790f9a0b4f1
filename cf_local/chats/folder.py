"""Where conversations are kept on this system, private to the user."""

import os
from pathlib import Path

import platformdirs

from cf_local.errors import CfLocalError

ENVIRONMENT_VARIABLE = "CF_LOCAL_DATA"
"""Names another folder for conversations and the history of the input line."""


class UnwritableError(CfLocalError):
    """Nothing can be written there: no folder, no permission, no space."""


def data_folder() -> Path:
    """The folder, made if it is not there (mode 0700). Raises UnwritableError."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    path = Path(named) if named else platformdirs.user_data_path("cf-local", appauthor=False)
    if not named and not path.is_absolute():  # "~" as it stands: the user has no home
        raise UnwritableError(f"You have no home folder; set {ENVIRONMENT_VARIABLE} to a folder.")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableError(f"The folder {path} cannot be made: {error.strerror}.") from error
    return path


def make_private(path: Path) -> None:
    """Make sure that a file is there and is its owner's alone (0600). Raises UnwritableError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o077 and os.name == "posix":
            path.chmod(0o600)
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written: {error.strerror}.") from error
