"""What may come next by what came before."""

from cf_local.method.speculation import LookUp


def seen(prompt: str, response: bytes = b"") -> LookUp:
    look_up = LookUp()
    look_up.start(prompt)
    look_up.append(response)
    return look_up


def test_what_followed_the_same_words_is_proposed() -> None:
    look_up = seen("Anna has 24 blue marbles and 3 cats.", b"She has 24 blue")
    assert look_up.propose(b"", 9) == (b" marbles ", 12)  # found by " has 24 blue"


def test_text_that_is_foreseen_already_is_looked_for_too() -> None:
    look_up = seen("Anna has 24 blue marbles.", b"She has")
    assert look_up.propose(b" 24 bl", 3) == (b"ue ", 8)


def test_the_latest_occurrence_counts() -> None:
    look_up = seen("a cat, a dog", b" then a cow then a")
    assert look_up.propose(b"", 4)[0] == b" cow"


def test_nothing_is_proposed_for_new_words_or_across_texts() -> None:
    look_up = seen("What is 7 times 8?")
    assert look_up.propose(b"zebra", 9) == (b"", 0)
    look_up.append(b"56")
    assert look_up.propose(b"mes 8?", 9) == (b"", 6)


def test_earlier_answers_have_no_part_in_a_new_one() -> None:
    look_up = seen("First?", b"The answer is 42.")
    look_up.start("Second?")
    look_up.append(b"The answer")
    assert look_up.propose(b"", 4)[0] == b""


def test_memory_is_bounded() -> None:
    look_up = seen("the very first words " + "x" * 100_000)
    look_up.start("the very")
    assert look_up.propose(b"", 6)[0] != b" first"
