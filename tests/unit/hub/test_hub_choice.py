"""Which files of a repository are chosen for a quantization, by their names alone."""

import pytest

from cf_local.files import parts
from cf_local.hub.choice import NoChoiceError, choose, is_model, quantization, some_of

SPLIT = tuple(f"Q8_0/big-Q8_0-0000{part}-of-00003.gguf" for part in (1, 2, 3))
FILES = (
    *("README.md", "config.json", "mmproj-model-F16.gguf", "imatrix.gguf", "big.imatrix.gguf"),
    *("big-Q2_K.gguf", "big-q4_k_m.gguf", "big-Q4_K_S.gguf", "UD/big-UD-Q4_K_XL.gguf"),
    *("big-IQ3_XXS.gguf", "big-F16.gguf", *SPLIT),
)


@pytest.mark.parametrize(
    ("quant", "chosen"),
    [
        (None, ("big-q4_k_m.gguf",)),
        ("latest", ("big-q4_k_m.gguf",)),
        ("Q4_K_M", ("big-q4_k_m.gguf",)),
        ("q2_k", ("big-Q2_K.gguf",)),
        ("iq3_xxs", ("big-IQ3_XXS.gguf",)),
        ("Q8_0", SPLIT),
        ("UD-Q4_K_XL", ("UD/big-UD-Q4_K_XL.gguf",)),
        ("q4_k_xl", ("UD/big-UD-Q4_K_XL.gguf",)),
        ("f16", ("big-F16.gguf",)),
        ("big-Q2_K.gguf", ("big-Q2_K.gguf",)),
    ],
)
def test_a_quantization_is_chosen_in_any_case(quant: str | None, chosen: tuple[str, ...]) -> None:
    assert choose(FILES, quant) == chosen
    assert choose(reversed(FILES), quant) == chosen


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["m-Q8_0.gguf", "m-Q4_0.gguf", "m-Q2_K.gguf"], "m-Q4_0.gguf"),
        (["m-Q8_0.gguf", "m-Q5_K_M.gguf", "m-Q3_K_M.gguf"], "m-Q5_K_M.gguf"),
        (["m-F32.gguf", "m-BF16.gguf", "m-Q2_K.gguf"], "m-Q2_K.gguf"),
        (["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"], "m-Q4_K_M.gguf"),
        (["m-Q4_K_M-v2-long.gguf", "m-Q4_K_M.gguf"], "m-Q4_K_M.gguf"),
        (["model.gguf", "mmproj-Q4_K_M.gguf"], "model.gguf"),
        (["model.gguf", "m-F32.gguf"], "m-F32.gguf"),
        (["M.GGUF"], "M.GGUF"),
    ],
)
def test_without_the_default_the_nearest_is_taken(files: list[str], chosen: str) -> None:
    assert choose(files) == (chosen,)
    assert choose(files[::-1]) == (chosen,)


@pytest.mark.parametrize(
    ("files", "quant", "message"),
    [
        ([], None, "has no GGUF model"),
        (["mmproj-F16.gguf", "imatrix.gguf", "README.md"], None, "has no GGUF model"),
        (["m-Q8_0.gguf", "model.gguf"], "Q5_K_M", "has no Q5_K_M; it has Q8_0, model.gguf"),
        (["m-Q4_K_M.gguf"], "Q4_K", "has no Q4_K; it has Q4_K_M"),
        (["mmproj-F16.gguf", "m-Q8_0.gguf"], "F16", "has no F16; it has Q8_0"),
        (SPLIT[:2], "Q8_0", f"lacks parts of {SPLIT[0]}: {SPLIT[2]}"),
        (SPLIT[1:], None, f"lacks parts of {SPLIT[0]}: {SPLIT[0]}"),
    ],
)
def test_what_cannot_be_chosen_is_explained(
    files: list[str], quant: str | None, message: str
) -> None:
    with pytest.raises(NoChoiceError) as caught:
        choose(files, quant)
    assert str(caught.value) == message


def test_some_parts_are_enough_to_name_a_model() -> None:
    assert some_of((*SPLIT[1:], "m-Q4_0.gguf"), "q8_0") == SPLIT[1:]


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("qwen2.5-1.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Llama-3-32k-v0.1.Q5_K_S.gguf", "Q5_K_S"),
        ("BF16/m-00001-of-00002.gguf", "BF16"),
        ("m_IQ4_NL.gguf", "IQ4_NL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("DeepSeek-UD-TQ1_0.gguf", "UD-TQ1_0"),
        ("m-Q6_K_L-00001-of-00002.gguf", "Q6_K_L"),
        ("Q3-nice-model.gguf", "Q3"),
        ("faq1.gguf", None),
        ("ash.gguf", None),
    ],
)
def test_the_label_of_a_name(file: str, label: str | None) -> None:
    assert quantization(file) == label


def test_the_parts_of_a_split_model() -> None:
    assert parts(SPLIT[1]) == SPLIT
    assert parts("m.gguf") == ("m.gguf",)
    assert not is_model("mtp-draft.gguf")
    assert not is_model("model.bin")
