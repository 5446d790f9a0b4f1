"""The settings of answers as a user of the chat names them: ``/set temperature 0.7``."""

from collections.abc import Mapping

from cf_local.errors import InputError
from cf_local.registry.toml import nearest
from cf_local.runtime.fusion import Fusion
from cf_local.settings import OPTIONS, Settings

CHOICES: Mapping[str, tuple[str, ...]] = {
    name: ("on", "off") if option.kind == "switch" else option.choices
    for name, option in OPTIONS.items()
    if option.choices or option.kind == "switch"
}
"""The values of those that have few."""


def changed(settings: Settings, fusion: Fusion, name: str, value: str) -> Settings:
    """The settings with one of them changed. Raises InputError that says what is allowed."""
    if name not in OPTIONS:
        raise InputError(f"There is no setting {name!r}{nearest(name, OPTIONS)}. /set lists them.")
    if not value:
        raise InputError(f"Give {name} a value: /set {name} VALUE.")
    parsed = OPTIONS[name].parse(value)
    if name == "stop":  # what the fusion stops at anyway, and the user's text
        parsed = (*fusion.settings.stop, *parsed)
    new = settings.with_options({name: parsed})
    fusion.speakers(new)
    return new


def listed(settings: Settings) -> list[tuple[str, str]]:
    """Each setting with its value, as it could be given to ``/set``."""
    return [(name, option.text(settings.get(name))) for name, option in OPTIONS.items()]
