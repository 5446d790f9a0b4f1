"""Colours, light and dark, and sizes; every text colour is readable on its background."""

import sys
import tkinter as tk
from dataclasses import dataclass
from tkinter import font, ttk


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as #rrggbb; ``sources`` has one per source, and repeats after the last."""

    ground: str  # behind text
    frame: str  # behind everything else
    text: str
    faint: str
    error: str
    selection: str
    border: str
    sources: tuple[str, ...]

    def source(self, index: int) -> str:
        """The colour of the source with that index."""
        return self.sources[index % len(self.sources)]


LIGHT = Theme(
    ground="#ffffff",
    frame="#f1f2f4",
    text="#1c1d20",
    faint="#5c6068",
    error="#b00020",
    selection="#cfe3ff",
    border="#c3c6cc",
    sources=("#0a5bb5", "#a04300", "#a1126e", "#1a6b2c", "#5a3cb4", "#7a5900"),
)
DARK = Theme(
    ground="#1b1c1f",
    frame="#27292d",
    text="#eceef1",
    faint="#a6abb4",
    error="#ff9a9a",
    selection="#2f4f7d",
    border="#4a4d54",
    sources=("#79bdff", "#ffb066", "#ff98d4", "#86dd94", "#c5b3ff", "#e6cf5c"),
)


def prepare_display() -> None:
    """Ask Windows for sharp text on dense screens, before the first window. Others need no call."""
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.shcore.SetProcessDpiAwareness(1)


def style(root: tk.Tk, theme: Theme) -> None:
    """Give all ttk widgets of ``root`` the colours of ``theme``."""
    root.configure(background=theme.frame)
    styles = ttk.Style(root)
    styles.theme_use("clam")  # the only theme that takes our colours on every system
    plain = {"background": theme.frame, "foreground": theme.text, "bordercolor": theme.border}
    edges = {"lightcolor": theme.frame, "darkcolor": theme.frame, "troughcolor": theme.frame}
    styles.configure(".", **plain, **edges, insertcolor=theme.text, arrowcolor=theme.text)
    field = {"fieldbackground": theme.ground, "selectbackground": theme.selection}
    styles.configure("TEntry", **field, selectforeground=theme.text, padding="4p")
    styles.configure(
        "TCombobox", **field, selectforeground=theme.text, padding="2p", arrowsize="10p"
    )
    styles.map("TCombobox", fieldbackground=[("readonly", theme.ground)])
    styles.configure("TButton", padding=("9p", "3p"))
    styles.map(
        "TButton",
        background=[("active", theme.selection)],
        foreground=[("disabled", theme.faint)],
    )
    styles.configure("TCheckbutton", indicatorsize="9p", indicatorforeground=theme.text)
    styles.map(
        "TCheckbutton",
        background=[("active", theme.frame)],
        indicatorbackground=[("", theme.ground)],
    )
    styles.configure("Horizontal.TProgressbar", background=theme.source(0), thickness="6p")
    styles.configure("TScrollbar", background=theme.border, gripcount=0, arrowsize="10p")
    styles.map("TScrollbar", background=[("disabled", theme.frame), ("active", theme.faint)])
    styles.configure("Faint.TLabel", foreground=theme.faint)
    # The list of a combobox is a classic widget, which has no styles.
    for option, colour in (("background", theme.ground), ("foreground", theme.text)):
        root.option_add(f"*TCombobox*Listbox.{option}", colour)


def reading_font(root: tk.Misc, weight: str = "normal") -> tuple[str, int, str]:
    """The font of questions and answers: the system's own, a little larger, in points."""
    return (font.nametofont("TkDefaultFont", root).actual("family"), 12, weight)
