"""Bytes to text as they come, and stop strings across segments."""

from __future__ import annotations

from comparison import show
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method.output import TextStream

STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def feed(stream: TextStream, *segments: str | bytes) -> list[str]:
    shown = [stream.feed(s.encode() if isinstance(s, str) else s) for s in segments]
    return [*shown, stream.flush()]


def cuts(data: st.DataObject, raw: bytes) -> list[bytes]:
    """``raw`` cut anywhere."""
    at = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    return [raw[a:b] for a, b in zip([0, *at], [*at, len(raw)], strict=True)]


@given(st.one_of(st.text().map(str.encode), st.binary()), st.data())
def test_segments_decode_like_the_whole(raw: bytes, data: st.DataObject) -> None:
    assert "".join(feed(TextStream(), *cuts(data, raw))) == show(raw)


@given(st.text("ab\ncé", max_size=30), STOPS, st.data())
def test_nothing_from_a_stop_string_on_is_shown(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    stream = TextStream(stops)
    shown = "".join(feed(stream, *cuts(data, text.encode())))
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert stream.stopped is any(stop in text for stop in stops)
    assert text.startswith(shown + stream.stopped_by)
    if not stream.stopped:
        assert shown == text


@given(st.text("ab\n", max_size=20), st.text("ab\n", min_size=1, max_size=4), st.data())
def test_how_text_is_cut_does_not_matter_for_one_stop_string(
    text: str, stop: str, data: st.DataObject
) -> None:
    shown = "".join(feed(TextStream([stop]), *cuts(data, text.encode())))
    assert shown == text.partition(stop)[0]


def test_half_a_character_waits_for_the_rest() -> None:
    first, rest = "é".encode()[:1], "é".encode()[1:]
    assert feed(TextStream(), b"caf" + first, rest) == ["caf", "é", ""]


def test_half_a_character_at_the_end_is_shown_as_broken() -> None:
    assert feed(TextStream(), b"caf\xc3") == ["caf", ""]


def test_a_possible_stop_string_is_held_back_until_it_is_decided() -> None:
    assert feed(TextStream(["\nUser:"]), "Hi.\nUs", "eful") == ["Hi.", "\nUseful", ""]
    assert feed(TextStream(["\nUser:"]), "Hi.\nUs", "er: x", "more") == ["Hi.", "", "", ""]
    assert feed(TextStream(["\nUser:"]), "Hi.\nUs") == ["Hi.", "\nUs"]


def test_the_longest_overlap_is_held_back() -> None:
    assert feed(TextStream(["aab"]), "xaa", "a", "b") == ["x", "a", "", ""]


def test_the_first_of_several_stop_strings_wins() -> None:
    assert feed(TextStream(["two", "one"]), "zero one two") == ["zero ", ""]
