"""Which files of a repository a quantization names, with all parts of a split model.

Pure: names in, names out. The rules are those of llama.cpp's ``-hf``, with a longer list to fall
back on.
"""

import re
from collections.abc import Iterable, Sequence

from cf_local.files import parts

DEFAULT = "Q4_K_M"
"""The quantization if none is given."""

# The nearest to the default in size and quality first: its equals, larger ones, smaller ones, and
# last the formats that are not quantized.
_PREFERENCE = (
    *("Q4_K_M", "Q4_K_S", "Q4_K_L", "Q4_K_XL", "Q4_0", "IQ4_XS", "IQ4_NL", "Q4_1", "MXFP4"),
    *("Q5_K_M", "Q5_K_S", "Q5_K_L", "Q5_K_XL", "Q5_0", "Q5_1", "Q6_K", "Q6_K_L", "Q6_K_XL"),
    *("Q8_0", "Q8_K_XL", "Q3_K_L", "Q3_K_M", "Q3_K_XL", "IQ3_M", "IQ3_S", "Q3_K_S", "IQ3_XS"),
    *("IQ3_XXS", "Q2_K_L", "Q2_K", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"),
    *("BF16", "F16", "FP16", "F32"),
)
_LABEL = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?(?:(?:IQ|TQ|Q)\d(?:_[A-Z0-9]{1,3})*|BF16|FP?16|FP?32|MXFP4(?:_MOE)?))"
    r"(?=[./-]|$)",
    re.IGNORECASE,
)


class NoChoiceError(Exception):
    """No file fits; the message completes a sentence about the repository: "has no ..."."""


def is_model(file: str) -> bool:
    """Whether a file of this name is a language model: not a projector or importance matrix."""
    name = file.rpartition("/")[2].lower()
    helper = "mmproj" in name or "imatrix" in name or name.startswith("mtp-")
    return name.endswith(".gguf") and not helper


def quantization(file: str) -> str | None:
    """The quantization in a file name, in capitals ("Q4_K_M", "UD-Q4_K_XL"), or None."""
    folder, _, name = file.rpartition("/")
    found = _LABEL.findall(name) or _LABEL.findall(folder)
    return str(found[-1]).upper() if found else None


def choose(files: Iterable[str], quant: str | None = None) -> tuple[str, ...]:
    """The files of one model among those of a repository, the first part first.

    ``quant`` ignores case; None means Q4_K_M or the nearest to it. It may also be a file's name.
    Raises NoChoiceError, also if a part of a split model is missing.
    """
    present = list(files)
    wanted = parts(some_of(present, quant)[0])
    missing = [file for file in wanted if file not in present]
    if missing:
        raise NoChoiceError(f"lacks parts of {wanted[0]}: {', '.join(missing)}")
    return wanted


def some_of(files: Iterable[str], quant: str | None = None) -> tuple[str, ...]:
    """Like ``choose``, but a split model may be incomplete: the parts that exist."""
    present = sorted(file for file in files if is_model(file))
    models = sorted({parts(file)[0] for file in present})
    named = None if quant is None or quant.lower() == "latest" else quant
    fitting = models if named is None else _fitting(models, named)
    if not fitting:
        raise NoChoiceError(_what_there_is(models, named))
    best = min(fitting, key=_rank)
    return tuple(file for file in present if parts(file)[0] == best)


def _fitting(models: Sequence[str], quant: str) -> list[str]:
    """The models of a quantization; an exact match wins over a partial one."""
    wanted = quant.upper()
    labels = {file: quantization(file) or "" for file in models}
    for fits in (
        [file for file in models if file.upper() == wanted],
        [file for file in models if labels[file] == wanted],
        [file for file in models if labels[file].removeprefix("UD-") == wanted],
        [file for file in models if re.search(re.escape(wanted) + "[.-]", file.upper())],
    ):
        if fits:
            return fits
    return []


def _rank(file: str) -> tuple[int, bool, int, str]:
    """Lower is better: a preferred quantization, not a variant of it, a short name."""
    label = quantization(file) or ""
    plain = label.removeprefix("UD-")
    rank = _PREFERENCE.index(plain) if plain in _PREFERENCE else len(_PREFERENCE)
    return rank, plain != label, len(file), file


def _what_there_is(models: Sequence[str], quant: str | None) -> str:
    if not models:
        return "has no GGUF model"
    labels = sorted({quantization(file) or file for file in models})
    return f"has no {quant}; it has {', '.join(labels)}"
