"""The models of a chat, the settings of its answers, and the saved states of its models."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cf_local.chats.transcript import Transcript
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.loading import loaded
from cf_local.cli.options import check_weights, chosen_models, settings_of
from cf_local.errors import InputError
from cf_local.progress import Closing
from cf_local.registry.registry import load_registry
from cf_local.registry.toml import nearest
from cf_local.runtime.conversation import without_oldest
from cf_local.runtime.fusion import Fusion
from cf_local.settings import OPTIONS, Settings
from cf_local.statecache import owner_of, restore_states, save_states
from cf_local.types import Chat, Message

CHOICES: Mapping[str, tuple[str, ...]] = {
    name: ("on", "off") if option.kind == "switch" else option.choices
    for name, option in OPTIONS.items()
    if option.choices or option.kind == "switch"
}
"""The values of settings that have only a few, for completion."""
_NEXT = Message("user", "?")  # stands for the next question


class Engine(Closing):
    """A loaded fusion, and its settings as changed by options and ``/set``."""

    def __init__(self, interrupt: Interrupt, options: Mapping[str, Any]) -> None:
        """Load what the options of the command select (see ``cli.options``)."""
        self._interrupt = interrupt
        self._options = dict(options)
        self._changes: dict[str, str] = {}
        self._opened = ExitStack()
        self.fusion: Fusion
        self.settings: Settings
        self._load(self._options, [])

    @property
    def _is_partial(self) -> bool:
        """Whether one source of several was loaded, to write alone."""
        return len(self.names) < len(self._all_names)

    @property
    def names(self) -> Sequence[str]:
        """The names of the sources, in order."""
        return tuple(source.info.name for source in self.fusion.sources)

    @property
    def name(self) -> str:
        """The names of the sources, on one line."""
        return ", ".join(self.names)

    @property
    def interrupt(self) -> Interrupt:
        """Reports whether the user pressed Ctrl-C."""
        return self._interrupt

    def set(self, name: str, value: str) -> None:
        """Change a setting of later answers, and load the sources that it needs.

        On InputError, the settings stay.
        """
        if self._is_partial and name in ("mode", "only"):
            self._load_for(name, value)
        if self._is_partial and name == "weights":  # for when the others are loaded
            check_weights(OPTIONS[name].parse(value), self._all_names)
        else:
            self.settings = changed(self.settings, self.fusion, name, value)
        self._changes[name] = value

    @contextmanager
    def changed_once(self, name: str, value: str) -> Iterator[None]:
        """While entered, a setting has another value; an empty ``name`` changes nothing."""
        former = self.settings
        if name:
            self.settings = changed(former, self.fusion, name, value)
        try:
            yield
        finally:
            self.settings = former

    def switch(self, fusion: str) -> list[str]:
        """Load another fusion instead of this one; returns notes about dropped settings.

        Raises CfLocalError if it cannot be loaded; this one then stays loaded. For a moment both
        are in memory.
        """
        notes: list[str] = []
        options = self._options | {"fusion": fusion, "models": ()}
        only = options["only"]
        if only not in (None, *load_registry().fusion(fusion).sources):
            notes.append(f"{fusion} has no source {only!r}; all of its sources answer.")
            options["only"] = None
        self._load(options, notes)
        return notes

    def close(self) -> None:
        """Unload the models. May be called twice."""
        self._opened.close()

    def _load_for(self, name: str, value: str) -> None:
        """Load the sources that "mode" or "only" needs in addition to those that are loaded."""
        wanted = self.settings.with_options({name: OPTIONS[name].parse(value)})
        known, needed = self._all_names, set(self._all_names)
        if wanted.mode == "single":
            needed = {wanted.only or known[0]}
        if not needed <= set(known):
            raise InputError(
                f"No source is named {wanted.only!r}; the sources are {', '.join(known)}."
            )
        if not needed <= set(self.names):
            change = {"mode": wanted.mode, "only": wanted.only}
            self._load(self._options | change, [])

    def _load(self, options: dict[str, Any], notes: list[str]) -> None:
        """Load, and only then unload the previous models. One source alone where that is asked."""
        from cf_local.loading.load import choose  # imported here: it loads the native library

        specs, _ = choose(load_registry(), *chosen_models(dict(options)))
        with ExitStack() as opening:
            given = dict(options)
            self._interrupt.clear()
            with self._interrupt.patient(False):
                fusion = opening.enter_context(loaded(self._interrupt, given, alone=True))
            is_first = not hasattr(self, "fusion")
            changes = dict(self._changes)
            if len(fusion.sources) < len(specs):  # one alone needs no weights; the rest may, later
                changes.pop("weights", None)
            settings = self._settings(fusion, given, changes, None if is_first else notes)
            former, self._opened = self._opened, opening.pop_all()
        self.fusion, self.settings, self._options = fusion, settings, options
        self._all_names = tuple(spec.name for spec in specs)
        former.close()

    def _settings(
        self,
        fusion: Fusion,
        given: dict[str, Any],
        changes: Mapping[str, str],
        notes: list[str] | None,
    ) -> Settings:
        """The fusion's settings with the user's changes; notes and drops those that do not fit."""
        try:
            names = [source.info.name for source in fusion.sources]
            settings = settings_of(fusion.settings, names, given)
            fusion.speakers(settings)
        except InputError as error:
            if notes is None:
                raise
            notes.append(f"The command's options do not fit this fusion: {error}")
            settings = fusion.settings
        for name, value in changes.items():
            try:
                settings = changed(settings, fusion, name, value)
            except InputError as error:
                del self._changes[name]
                if notes is not None:
                    notes.append(f"{name} is reset to the fusion's value: {error}")
        return settings


def changed(settings: Settings, fusion: Fusion, name: str, value: str) -> Settings:
    """The settings with one value changed. Raises InputError, which says what is allowed."""
    if name not in OPTIONS:
        raise InputError(f"Unknown setting {name!r}{nearest(name, OPTIONS)}. /set lists all.")
    if not value:
        raise InputError(f"Give {name} a value: /set {name} VALUE.")
    parsed = OPTIONS[name].parse(value)
    if name == "stop":  # the fusion's own stop texts stay
        parsed = (*fusion.settings.stop, *parsed)
    new = settings.with_options({name: parsed})
    fusion.speakers(new)
    return new


def listed(settings: Settings) -> list[tuple[str, str]]:
    """Each setting with its value, as ``/set`` accepts it."""
    return [(name, option.text(settings.get(name))) for name, option in OPTIONS.items()]


class StateSaver:
    """Saves and restores the state of the engine's models for saved chats; shows nothing."""

    def __init__(self, engine: Engine, database: Path | None) -> None:
        """``database`` is the file where chats are saved; without one, no state is saved."""
        self._engine = engine
        self._database = database
        self._saved = Transcript()

    def save(
        self, number: int | None, transcript: Transcript, thinks: bool | None, n_dropped: int
    ) -> None:
        """Save the state after a chat, unless it is as last restored or saved.

        ``n_dropped`` is the number of oldest turns that the models no longer saw.
        """
        if self._database is None or number is None or transcript == self._saved:
            return
        self._saved = transcript
        interrupt = self._engine.interrupt
        interrupt.clear()  # a Ctrl-C from now on skips the rest
        save_states(
            self._engine.fusion,
            _prompt(transcript, thinks, n_dropped),
            owner_of(self._database, number),
            is_cancelled=interrupt.is_set,
        )

    def restore(self, number: int | None, transcript: Transcript, thinks: bool | None) -> None:
        """Restore the saved state of a chat, or of another one with the same start."""
        self._saved = transcript
        if self._database is None or number is None or not transcript.turns:
            return
        interrupt = self._engine.interrupt
        interrupt.clear()
        restore_states(
            self._engine.fusion,
            _prompt(transcript, thinks, 0),
            owner_of(self._database, number),
            is_cancelled=interrupt.is_set,
        )


def _prompt(transcript: Transcript, thinks: bool | None, n_dropped: int) -> Chat:
    """The prompt that the models will get when the chat continues."""
    asked = without_oldest([*transcript.messages(), _NEXT], n_dropped)
    return Chat(tuple(asked), thinks)
