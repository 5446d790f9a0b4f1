"""Files that are written whole or not at all."""

import os
from pathlib import Path

import pytest

from cf_local.errors import InputError
from cf_local.files import check_replaceable, parts, replacing, write_result, write_text

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "file"
    write_text(place, "old")
    with pytest.raises(OSError, match="full"), replacing(place) as new:  # noqa: PT012
        new.write_text("half")
        raise OSError("The disk is full.")
    with pytest.raises(ValueError, match="not like this"):
        write_text(place, "bad", check=refuse)
    with replacing(place) as new:
        new.unlink()
    assert place.read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_half_of_a_character_is_a_question_mark(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "a\ud800")
    assert (tmp_path / "file").read_text() == "a?"


def refuse(new: Path) -> None:
    assert new.read_text() == "bad"
    raise ValueError("not like this")


def test_nobody_sees_a_half(tmp_path: Path) -> None:
    place = tmp_path / "file"
    write_text(place, "old")
    with replacing(place) as new:
        new.write_text("ne")
        assert place.read_text() == "old"
        new.write_text("new")
    assert place.read_text() == "new"


@posix_only
def test_modes(tmp_path: Path) -> None:
    former = os.umask(0o022)
    try:
        write_text(tmp_path / "public", "x")
        write_text(tmp_path / "private", "x", private=True)
    finally:
        os.umask(former)
    assert mode(tmp_path / "public") == 0o644
    assert mode(tmp_path / "private") == 0o600
    (tmp_path / "public").chmod(0o640)
    write_text(tmp_path / "public", "y")
    assert mode(tmp_path / "public") == 0o640


@posix_only
def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    write_text(Path(os.devnull), "gone")
    assert not Path(os.devnull).is_file()


def test_what_cannot_be_written_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.json cannot be written: No such file"):
        write_result(tmp_path / "none" / "x.json", "text")


def test_only_a_file_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    def is_ours(head: bytes) -> bool:
        return head.startswith(b"ours")

    place = tmp_path / "file"
    for text in (None, "", "ours, too"):
        if text is not None:
            place.write_text(text)
        check_replaceable(place, is_ours, "ours")
    place.write_text("theirs")
    with pytest.raises(InputError, match="is not ours"):
        check_replaceable(place, is_ours, "ours")
    with pytest.raises(InputError, match="is a folder"):
        check_replaceable(tmp_path, is_ours, "ours")
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        check_replaceable(tmp_path / "none" / "file", is_ours, "ours")


def test_the_parts_of_a_split_model() -> None:
    assert parts("m.gguf") == ("m.gguf",)
    both = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    assert parts(both[0]) == parts(both[1]) == both
