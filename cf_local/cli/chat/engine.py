"""The models of a chat and the settings of its answers; both can change while it runs."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cf_local.chats.transcript import Transcript
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.options import loaded, settings_of
from cf_local.errors import InputError
from cf_local.progress import Closing
from cf_local.registry.toml import nearest
from cf_local.runtime.conversation import without_oldest
from cf_local.runtime.fusion import Fusion
from cf_local.settings import OPTIONS, Settings
from cf_local.statecache import keep, owner_of, restore
from cf_local.types import Chat, Message

CHOICES: Mapping[str, tuple[str, ...]] = {
    name: ("on", "off") if option.kind == "switch" else option.choices
    for name, option in OPTIONS.items()
    if option.choices or option.kind == "switch"
}
"""The values of those that have few."""
_NEXT = Message("user", "?")  # stands for the next question


class Engine(Closing):
    """A loaded fusion, and the settings that the user's options and ``/set`` make of its own."""

    def __init__(self, interrupt: Interrupt, options: Mapping[str, Any]) -> None:
        """Load what the options of the command say (see ``cli.options``)."""
        self._interrupt = interrupt
        self._options = dict(options)
        self._changes: dict[str, str] = {}
        self._opened = ExitStack()
        self.fusion: Fusion
        self.settings: Settings
        self._load(self._options, [])

    @property
    def names(self) -> Sequence[str]:
        """The sources in their order."""
        return tuple(source.info.name for source in self.fusion.sources)

    @property
    def name(self) -> str:
        """What is loaded, on one line."""
        return ", ".join(self.names)

    @property
    def interrupt(self) -> Interrupt:
        """Whether the user pressed Ctrl-C."""
        return self._interrupt

    def set(self, name: str, value: str) -> None:
        """Change a setting of the next answers. Raises InputError; the settings stay then."""
        self.settings = changed(self.settings, self.fusion, name, value)
        self._changes[name] = value

    def switch(self, fusion: str) -> list[str]:
        """Load another fusion in place of this one; returns notes about settings left behind.

        Raises CfLocalError when it cannot be loaded: this one stays then. For a moment both are
        in memory.
        """
        notes: list[str] = []
        options = self._options | {"fusion": fusion, "models": ()}
        self._load(options, notes)
        return notes

    def close(self) -> None:
        """Unload the models. May be called twice."""
        self._opened.close()

    def _load(self, options: dict[str, Any], notes: list[str]) -> None:
        """Load, and only then give up what was loaded before."""
        with ExitStack() as opening:
            given = dict(options)
            self._interrupt.clear()
            with self._interrupt.patient(False):
                fusion = opening.enter_context(loaded(self._interrupt, given))
            is_first = not hasattr(self, "fusion")
            settings = self._settings(fusion, given, None if is_first else notes)
            former, self._opened = self._opened, opening.pop_all()
        self.fusion, self.settings, self._options = fusion, settings, options
        former.close()

    def _settings(self, fusion: Fusion, given: dict[str, Any], notes: list[str] | None) -> Settings:
        """The fusion's settings with the user's; what does not suit it is noted and left out."""
        try:
            settings = settings_of(fusion, given)
            fusion.speakers(settings)
        except InputError as error:
            if notes is None:
                raise
            notes.append(f"The options of the command do not suit it: {error}")
            settings = fusion.settings
        for name, value in list(self._changes.items()):
            try:
                settings = changed(settings, fusion, name, value)
            except InputError as error:
                del self._changes[name]
                if notes is not None:
                    notes.append(f"{name} is as the fusion has it: {error}")
        return settings


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


class StateSaver:
    """Keeps and restores what the engine has read of saved chats; the view hears nothing of it."""

    def __init__(self, engine: Engine, database: Path | None) -> None:
        """``database`` is where chats are saved; without one nothing is kept."""
        self._engine = engine
        self._database = database
        self._settled = Transcript()

    def keep(
        self, number: int | None, transcript: Transcript, thinks: bool | None, n_dropped: int
    ) -> None:
        """Keep what was read of a chat, unless it is as it was restored or kept.

        ``n_dropped`` of its turns the models were not told any more.
        """
        if self._database is None or number is None or transcript == self._settled:
            return
        self._settled = transcript
        interrupt = self._engine.interrupt
        interrupt.clear()  # a Ctrl-C from now on means: leave it
        keep(
            self._engine.fusion,
            _prompt(transcript, thinks, n_dropped),
            owner_of(self._database, number),
            is_cancelled=interrupt.is_set,
        )

    def restore(self, number: int | None, transcript: Transcript, thinks: bool | None) -> None:
        """Take up what was kept of a chat, or of another one that begins as it does."""
        self._settled = transcript
        if self._database is None or number is None or not transcript.turns:
            return
        interrupt = self._engine.interrupt
        interrupt.clear()
        restore(
            self._engine.fusion,
            _prompt(transcript, thinks, 0),
            owner_of(self._database, number),
            is_cancelled=interrupt.is_set,
        )


def _prompt(transcript: Transcript, thinks: bool | None, n_dropped: int) -> Chat:
    """What the models will be told of a chat when it goes on."""
    asked = without_oldest([*transcript.messages(), _NEXT], n_dropped)
    return Chat(tuple(asked), thinks)
