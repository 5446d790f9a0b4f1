"""Which models on this machine suit each other: the choice that ``cf-local setup`` proposes.

Sets of two and three models are compared by one number, in doublings of size. The mean of the
sizes counts, and how much other voices add; what makes a set slow or uneven is subtracted. The best
set that fits into memory is chosen. The numbers are rules of thumb, not measurements: `cf-local
eval` and `cf-local calibrate` measure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from cf_local.loading.candidates import Candidate
from cf_local.registry.registry import FusionSpec, Registry
from cf_local.settings import Settings

SPREAD = 5
"""How many times as large as the smallest the largest source may be."""

_SECOND, _THIRD = 1.0, 0.6  # what another family adds, in doublings of size
_SAME_FAMILY = 0.5  # the share of it that a relative adds
_NO_TEMPLATE = 1.0  # a base model does not follow instructions
_COARSE, _COARSE_BITS = 1.0, 3.5  # little is left of a model below 3.5 bits per weight
_MIXED = 0.5  # a model of code among general ones
_DOMINANT, _DOMINANT_SHARE = 1.0, 2 / 3
_SLOW, _CPU_BYTES = 1.5, 8e9  # weights a CPU reads for each word; each doubling costs time
_USUAL_BITS = 5.0
_MOST = 16
_MARGIN = 1.25  # memory in addition to the weights, where nothing else is known
_PER_SOURCE_BYTES = 300_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """The sources of a proposed fusion, with a line about each, and why others were left out."""

    members: tuple[Candidate, ...]
    reasons: tuple[str, ...]
    left_out: tuple[tuple[Candidate, str], ...]


def choose_set(
    candidates: Sequence[Candidate],
    fits: Callable[[Sequence[Candidate]], bool],
    *,
    on_gpu: bool = False,
) -> Choice | None:
    """The best set that fits into memory; of one model where no two suit each other.

    ``fits`` is asked about few sets, the best first. None if not even one model fits.
    """
    pool = _pool(candidates)
    sets = [
        members
        for count in (3, 2)
        for members in combinations(pool, count)
        if members[0].n_parameters <= SPREAD * members[-1].n_parameters
    ]
    sets.sort(key=lambda members: -score(members, on_gpu=on_gpu))
    singles = sorted(((one,) for one in pool), key=lambda one: -score(one, on_gpu=on_gpu))
    for members in (*sets, *singles):
        if fits(members):
            return _explained(members, candidates)
    return None


def score(members: Sequence[Candidate], *, on_gpu: bool = False) -> float:
    """How good the set is, in doublings of size: higher is better."""
    sizes = [max(1, one.n_parameters) for one in members]
    total = sum(math.log2(size) for size in sizes) / len(sizes)
    families = {members[0].family}
    for one, gain in zip(members[1:], (_SECOND, _THIRD), strict=False):
        total += gain * (_SAME_FAMILY if one.family in families else 1)
        families.add(one.family)
    total -= _NO_TEMPLATE * sum(not one.chats for one in members)
    total -= _COARSE * sum(one.bits < _COARSE_BITS for one in members)
    total -= _MIXED * min(sum(one.codes for one in members), sum(not one.codes for one in members))
    if len(members) > 1 and max(sizes) > _DOMINANT_SHARE * sum(sizes):
        total -= _DOMINANT
    if not on_gpu:
        n_bytes = sum(one.n_bytes for one in members)
        total -= _SLOW * max(0.0, math.log2(n_bytes / _CPU_BYTES))
    return total


def curated_set(registry: Registry, n_bytes: int) -> FusionSpec | None:
    """The largest set of models.toml on the hub that fits into so much memory, by its files' sizes.

    Sets without limits on commercial use come first. Nothing is sent. None if no set fits.
    """
    fitting = [
        fusion
        for fusion in registry.fusions.values()
        if fusion.settings == Settings() and 0 < needed_bytes(registry, fusion) <= n_bytes
    ]
    return max(
        fitting,
        key=lambda fusion: (_is_free(registry, fusion), download_bytes(registry, fusion)),
        default=None,
    )


def download_bytes(registry: Registry, fusion: FusionSpec) -> int:
    """The size of the files of a set; 0 if it is unknown or they are not on the hub."""
    sizes = [
        (spec.size_bytes or 0) if spec.repo else 0 for spec in map(registry.source, fusion.sources)
    ]
    return sum(sizes) if all(sizes) else 0


def needed_bytes(registry: Registry, fusion: FusionSpec) -> int:
    """A rough estimate of the memory that a set takes, without reading its headers."""
    n_bytes = download_bytes(registry, fusion)
    return int(_MARGIN * n_bytes) + _PER_SOURCE_BYTES * len(fusion.sources) if n_bytes else 0


def _is_free(registry: Registry, fusion: FusionSpec) -> bool:
    licences = [registry.source(name).licence or "" for name in fusion.sources]
    return not any("non-commercial" in licence.lower() for licence in licences)


def _pool(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each model in its most usual quantization, the largest first; not too many to compare."""
    best: dict[tuple[str, int, str], Candidate] = {}
    for one in sorted(candidates, key=lambda one: abs(one.bits - _USUAL_BITS)):
        best.setdefault(one.identity, one)
    chosen = sorted(best.values(), key=lambda one: -score((one,)))[:_MOST]
    return sorted(chosen, key=lambda one: (-one.n_parameters, one.name))


def _explained(members: tuple[Candidate, ...], candidates: Sequence[Candidate]) -> Choice:
    reasons = [_why(one, members[:index]) for index, one in enumerate(members)]
    left_out = [(one, _why_left_out(one, members)) for one in candidates if one not in members]
    return Choice(members, tuple(reasons), tuple(left_out))


def _why(one: Candidate, before: Sequence[Candidate]) -> str:
    """A line about a member, compared with the larger ones before it."""
    base = "" if one.chats else "; a base model, no chat template"
    if not before:
        return f"the largest{base}"
    kin = next((other.name for other in before if other.family == one.family), None)
    share = one.n_parameters / before[0].n_parameters
    size = "as large" if share > 0.95 else f"{share:.0%} of its size"
    return (f"{size}, of the family of {kin}" if kin else f"{size}, another family") + base


def _why_left_out(one: Candidate, members: Sequence[Candidate]) -> str:
    for other in members:
        if one.identity == other.identity:
            return f"the same model as {other.name}"
    if not one.chats:
        return "a base model without a chat template"
    if one.n_parameters > members[0].n_parameters:
        return "with it, the set would be uneven, slow or too large for the memory"
    if one.n_parameters * SPREAD < members[0].n_parameters:
        return f"much smaller than {members[0].name}"
    if any(one.family == other.family for other in members):
        return "its family is in the set"
    return "the set is complete without it"
