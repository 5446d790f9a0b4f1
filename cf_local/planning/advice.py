"""What to say of a set that does not fit: what is missing, and which changes would make it fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from cf_local.planning.memory import megabytes
from cf_local.planning.plan import (
    CONTEXT_STEP,
    ModelSizes,
    Plan,
    Room,
    Wish,
    best_plan,
    with_context,
)

# Bits per weight of common quantizations, in whole files of 1 to 9 billion parameters.
_BITS = {"Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q4_K_M": 4.9, "Q3_K_M": 4.0, "Q2_K": 3.4}
_LEAST_CONTEXT = 512


@dataclass(frozen=True, slots=True)
class Advice:
    """One change that would make a set fit, in words and as data."""

    kind: str
    text: str
    n_ctx: int | None = None
    sources: tuple[str, ...] = ()


def advise(models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room) -> list[Advice]:
    """What would fit, the smallest change first; nothing if not even one source would."""
    return [
        *_quantized_cache(models, wishes, room),
        *_smaller_context(models, wishes, room),
        *_smaller_weights(models, wishes, room),
        *_fewer_sources(models, wishes, room),
    ]


def refusal(plan: Plan, advices: Sequence[Advice]) -> str:
    """The message for the user: what does not fit, and what would."""
    short = [name for name, need in plan.needs.items() if need > plan.budgets[name]]
    missing = "; ".join(
        f"{megabytes(plan.needs[name])} of {_memory_of(name)} are needed, "
        f"{megabytes(plan.budgets[name])} may be used"
        for name in short
    )
    names = ", ".join(each.source for each in plan.arrangements)
    would = (
        f"What would fit: {'; or '.join(a.text for a in advices)}."
        if advices
        else "Choose much smaller models."
    )
    return f"Not enough memory for {names}: {missing}. {would}"


def _memory_of(device: str) -> str:
    return "main memory" if device == "CPU" else f"the memory of {device}"


def _quantized_cache(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    if all("q8_0" in wish.kv_types for wish in wishes):
        return  # the plan has tried it
    quantized = [replace(wish, kv_types=("q8_0",)) for wish in wishes]
    if best_plan(models, quantized, room).fits:
        yield Advice("kv_type", "a quantized cache (--kv-type q8_0)")


def _smaller_context(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    low, high = _LEAST_CONTEXT, max(min(w.n_ctx, w.n_ctx_min) for w in wishes)
    if high <= low or not best_plan(models, with_context(wishes, low), room).fits:
        return
    while high - low > CONTEXT_STEP:
        middle = (low + high) // 2 // CONTEXT_STEP * CONTEXT_STEP
        middle = max(low + CONTEXT_STEP, middle)
        if middle >= high:
            break
        if best_plan(models, with_context(wishes, middle), room).fits:
            low = middle
        else:
            high = middle
    yield Advice("context", f"a context of {low} tokens (--context {low})", n_ctx=low)


def _smaller_weights(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    """The largest common quantization that would fit, if it is smaller than the present one."""
    n_parameters = sum(model.n_parameters for model in models)
    if not n_parameters:
        return
    now = 8 * sum(model.weights for model in models) / n_parameters
    for name, bits in _BITS.items():
        if bits >= 0.95 * now:
            continue
        if best_plan([_quantized(model, bits) for model in models], wishes, room).fits:
            text = (
                f"a smaller quantization, such as {name} ({bits:g} bits per weight, now {now:.1f})"
            )
            yield Advice("quantization", text)
            return


def _quantized(model: ModelSizes, bits: float) -> ModelSizes:
    """The model with at most that many bits per weight."""
    share = min(1.0, bits * model.n_parameters / (8 * max(1, model.weights)))
    return replace(
        model,
        blocks=tuple(int(share * block) for block in model.blocks),
        inputs=int(share * model.inputs),
        outputs=int(share * model.outputs),
    )


def _fewer_sources(
    models: Sequence[ModelSizes], wishes: Sequence[Wish], room: Room
) -> Iterator[Advice]:
    """The largest number of sources that fits, and of such subsets the largest in bytes."""
    for count in range(len(models) - 1, 0, -1):
        fitting = [
            chosen
            for chosen in combinations(range(len(models)), count)
            if best_plan([models[i] for i in chosen], [wishes[i] for i in chosen], room).fits
        ]
        if fitting:
            best = max(fitting, key=lambda chosen: sum(models[i].weights for i in chosen))
            names = tuple(models[i].name for i in best)
            what = "only the source" if count == 1 else f"only {count} of the sources,"
            yield Advice("sources", f"{what} {' and '.join(names)}", sources=names)
            return
