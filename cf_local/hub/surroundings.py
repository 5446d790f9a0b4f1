"""What the hub's library goes by on this machine."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where downloads come from and go to; whether there is a token, never which."""

    cache_folder: Path
    endpoint: str
    has_token: bool
    is_offline: bool


def surroundings() -> Surroundings:
    """As environment variables and the hub's own settings have it; nothing is sent."""
    from huggingface_hub import constants, get_token, is_offline_mode

    return Surroundings(
        Path(constants.HF_HUB_CACHE), constants.ENDPOINT, bool(get_token()), is_offline_mode()
    )
