"""Arrangements of made-up models on made-up devices, down to the byte."""

from dataclasses import replace
from typing import Any

import pytest

from cf_local.planning.advice import advise, refusal
from cf_local.planning.memory import Device
from cf_local.planning.plan import Layout, ModelSizes, Need, Plan, Room, Wish, best_plan
from cf_local.types import KvType

MB = 1_000_000


def layout(n_ctx: int, kv_type: KvType) -> Layout:
    """10 kB of cache per token, half of it when quantized; buffers of 20 MB."""
    cache = n_ctx * (10_000 if kv_type == "f16" else 5_000)
    return Layout(cache, buffers=20 * MB, gpu_buffers=20 * MB)


def model(name: str, megabytes: int, **changes: Any) -> ModelSizes:
    """Ten blocks with 80% of the weights, 10% of inputs and of outputs; 5 MB of our own."""
    block, rest = megabytes * MB * 8 // 100, megabytes * MB // 10
    sizes = ModelSizes(name, 32768, (block,) * 10, rest, rest, 5 * MB, layout)
    return replace(sizes, **changes)


def device(name: str, kind: Any, megabytes: int, backend: str = "CUDA") -> Device:
    return Device(name, name, kind, backend, megabytes * MB, megabytes * MB)


def cpu(megabytes: int) -> Device:
    return device("CPU", "cpu", megabytes, "CPU")


def gpu(megabytes: int, name: str = "CUDA0") -> Device:
    """A GPU of which so much may be used: the margin comes on top."""
    return device(name, "gpu", megabytes + 512)


def planned(
    models: list[ModelSizes], *devices: Device, limit: int | None = None, **wish: Any
) -> Plan:
    room = Room.of(devices, None if limit is None else limit * MB)
    return best_plan(models, [Wish(**wish)] * len(models), room)


def test_everything_as_wished_when_there_is_room() -> None:
    plan = planned([model("a", 1000), model("b", 500)], cpu(16_000))
    assert plan.fits
    assert not plan.is_reduced
    a, b = plan.arrangements
    assert (a.source, b.source) == ("a", "b")
    assert (a.device, a.n_gpu_layers, a.n_ctx, a.kv_type) == (None, 0, 4096, "f16")
    assert a.main == Need(1000 * MB, 40_960_000, 20 * MB, 5 * MB)
    assert plan.n_main == a.main.total + b.main.total
    assert plan.n_weights == 1500 * MB


def test_first_the_cache_is_quantized_then_the_context_shrinks() -> None:
    models = [model("a", 1000)]  # 1025 MB and the cache
    tight = planned(models, cpu(9999), limit=1050)
    assert tight.fits
    assert tight.is_reduced
    assert (tight.arrangements[0].n_ctx, tight.arrangements[0].kv_type) == (4096, "q8_0")
    tighter = planned(models, cpu(9999), limit=1041)
    assert (tighter.arrangements[0].n_ctx, tighter.arrangements[0].kv_type) == (3072, "q8_0")
    assert not planned(models, cpu(9999), limit=1035).fits  # 2048 tokens need 1035.24


def test_what_was_asked_for_is_not_shrunk() -> None:
    asked = planned([model("a", 1000)], cpu(9999), limit=1040, n_ctx=4096, n_ctx_min=4096)
    assert not asked.fits
    assert asked.arrangements[0].n_ctx == 4096
    fixed = planned([model("a", 1000)], cpu(9999), limit=1050, kv_types=("f16",))
    assert fixed.fits
    assert (fixed.arrangements[0].n_ctx, fixed.arrangements[0].kv_type) == (2304, "f16")


def test_a_model_with_less_context_has_no_more() -> None:
    plan = planned([model("a", 100, n_ctx_train=512), model("b", 100)], cpu(9999))
    assert [each.n_ctx for each in plan.arrangements] == [512, 4096]


def test_what_is_kept_of_each_token_grows_with_the_context() -> None:
    plan = planned([model("a", 100, per_token=300)], cpu(9999), n_ctx=1000)
    assert plan.arrangements[0].main.program == 5 * MB + 300_000


def test_a_cache_that_cannot_be_quantized_stays_as_it_is() -> None:
    stubborn = model("a", 1000, layout=lambda n, kv: None if kv == "q8_0" else layout(n, kv))
    plan = planned([stubborn], cpu(9999), limit=1050)
    assert plan.fits
    assert (plan.arrangements[0].kv_type, plan.arrangements[0].n_ctx) == ("f16", 2304)


def test_a_margin_is_left_of_what_is_available_but_not_of_a_given_limit() -> None:
    assert Room.of([cpu(1000)]).budgets == {"CPU": 800 * MB}
    assert Room.of([cpu(100_000)]).budgets == {"CPU": 97_000 * MB}
    assert Room.of([cpu(100)]).budgets == {"CPU": 0}
    assert Room.of([cpu(1000)], 900 * MB).budgets == {"CPU": 900 * MB}
    assert Room.of([cpu(1000)], 2000 * MB).budgets == {"CPU": 1000 * MB}


def test_all_on_the_gpu_when_it_fits() -> None:
    plan = planned([model("a", 1000), model("b", 500)], cpu(16_000), gpu(2000))
    for each in plan.arrangements:
        assert (each.device, each.n_gpu_layers, each.n_layers) == ("CUDA0", 11, 11)
        assert each.gpu.cache == 40_960_000
    a = plan.arrangements[0]
    assert a.main == Need(weights=100 * MB, program=5 * MB)  # the embeddings
    assert a.gpu.weights == 900 * MB
    assert plan.needs["CUDA0"] == a.gpu.total + plan.arrangements[1].gpu.total


def test_the_largest_source_gets_the_gpu_first_and_the_next_what_is_left() -> None:
    models = [model("small", 500), model("large", 1000)]
    plan = planned(models, cpu(16_000), gpu(1200))
    small, large = plan.arrangements
    assert large.n_gpu_layers == 11  # 961 MB
    assert small.device == "CUDA0"
    # 239 MB are left: 20 of buffers, 50 of the output, and 44.1 for each of three blocks
    assert small.n_gpu_layers == 4
    assert small.gpu.weights == 170 * MB
    assert small.main.weights == 330 * MB
    assert small.main.buffers == small.gpu.buffers == 20 * MB
    assert plan.needs["CUDA0"] <= 1200 * MB


def test_two_gpus_take_one_source_each() -> None:
    models = [model("a", 1000), model("b", 900)]
    plan = planned(models, cpu(16_000), gpu(1000, "CUDA0"), gpu(1100, "CUDA1"))
    assert [each.device for each in plan.arrangements] == ["CUDA1", "CUDA0"]
    assert all(each.n_gpu_layers == 11 for each in plan.arrangements)


def test_a_source_too_large_for_any_gpu_is_spread_over_several() -> None:
    plan = planned([model("a", 1000)], cpu(16_000), gpu(500, "CUDA0"), gpu(700, "CUDA1"))
    (a,) = plan.arrangements
    assert plan.fits
    # 700 MB hold 8 blocks of 84.1 MB and 20 MB of buffers, 500 MB the other two and the output.
    assert [(each.device, each.n_layers) for each in a.gpus or ()] == [("CUDA1", 8), ("CUDA0", 3)]
    assert (a.device, a.n_gpu_layers) == ("CUDA1+CUDA0", 11)
    assert a.main == Need(weights=100 * MB, program=5 * MB)
    assert a.gpu == Need(weights=900 * MB, cache=40_960_000, buffers=40 * MB)
    for each in a.gpus or ():
        assert plan.needs[each.device] == each.need.total <= plan.budgets[each.device]


def test_what_several_gpus_cannot_hold_stays_on_the_cpu() -> None:
    plan = planned([model("a", 1000)], cpu(16_000), gpu(200, "CUDA0"), gpu(300, "CUDA1"))
    (a,) = plan.arrangements
    assert plan.fits
    assert [(each.device, each.n_layers) for each in a.gpus or ()] == [("CUDA1", 3), ("CUDA0", 1)]
    assert a.main.cache + a.gpu.cache == 40_960_000
    assert a.main.weights + a.gpu.weights == 1000 * MB
    assert a.main.buffers == 20 * MB


def test_layers_that_were_asked_for_may_be_spread_too() -> None:
    there = (cpu(16_000), gpu(500, "CUDA0"), gpu(700, "CUDA1"))
    plan = planned([model("a", 1000)], *there, n_gpu_layers=-1)
    assert plan.fits
    assert plan.arrangements[0].device == "CUDA1+CUDA0"
    assert planned([model("a", 1000)], *there, n_gpu_layers=4).arrangements[0].device == "CUDA1"


def test_layers_and_devices_that_were_asked_for() -> None:
    models = [model("a", 1000)]
    there = (cpu(16_000), gpu(2000))
    assert planned(models, *there, n_gpu_layers=3).arrangements[0].n_gpu_layers == 3
    assert planned(models, *there, n_gpu_layers=99).arrangements[0].n_gpu_layers == 11
    assert planned(models, *there, n_gpu_layers=0).arrangements[0].device is None
    assert planned(models, *there, device="cpu").arrangements[0].device is None
    too_small = planned(models, cpu(16_000), gpu(500), n_gpu_layers=-1)
    assert not too_small.fits
    assert "CUDA0" in refusal(too_small, [])


def test_without_a_plan_the_layers_go_to_all_gpus_or_none() -> None:
    assert Wish().unplanned("a").device == "*"
    assert Wish(device="cpu").unplanned("a").device is None


def test_layers_without_a_gpu_stay_on_the_cpu() -> None:
    assert planned([model("a", 100)], cpu(9999), n_gpu_layers=5).arrangements[0].device is None


def test_a_gpu_that_has_no_room_is_left_alone() -> None:
    plan = planned([model("a", 1000)], cpu(16_000), gpu(50))
    assert plan.fits
    assert plan.arrangements[0].device is None
    assert plan.needs["CUDA0"] == 0


@pytest.mark.parametrize(("kind", "backend"), [("igpu", "Vulkan"), ("gpu", "MTL")])
def test_a_gpu_in_main_memory_is_counted_there_too(kind: str, backend: str) -> None:
    shared = device("GPU0", kind, 4000, backend)
    plan = planned([model("a", 1000)], cpu(16_000), shared)
    each = plan.arrangements[0]
    assert each.n_gpu_layers == 11
    assert plan.n_main == each.main.total + each.gpu.total


def test_an_integrated_gpu_stands_back_behind_a_discrete_one() -> None:
    there = [cpu(9999), device("iGPU", "igpu", 9999, "Vulkan"), gpu(3000)]
    assert set(Room.of(there).budgets) == {"CPU", "CUDA0"}


def test_what_a_gpu_takes_need_not_fit_into_main_memory() -> None:
    plan = planned([model("a", 4000)], cpu(1000), gpu(5000))
    assert plan.fits
    assert plan.n_main == 405 * MB


def advice_for(models: list[ModelSizes], limit: int, **wish: Any) -> dict[str, Any]:
    wishes = [Wish(**wish)] * len(models)
    room = Room.of([cpu(99_999)], limit * MB)
    assert not best_plan(models, wishes, room).fits
    return {each.kind: each for each in advise(models, wishes, room)}


def test_advice_names_the_largest_context_that_fits() -> None:
    advices = advice_for([model("a", 1000)], 1050, n_ctx=8192, n_ctx_min=8192)
    assert advices["context"].n_ctx == 4864  # 25 MB are left: 5000 tokens of 5 kB
    assert "--context 4864" in advices["context"].text


def test_advice_to_quantize_the_cache_only_where_that_was_forbidden() -> None:
    fixed = {"n_ctx": 4096, "n_ctx_min": 4096, "kv_types": ("f16",)}
    assert "kv_type" in advice_for([model("a", 1000)], 1050, **fixed)
    assert "kv_type" not in advice_for([model("a", 1000)], 1030)


def test_advice_names_a_quantization_that_fits() -> None:
    eight_bits = model("a", 1000, n_parameters=8 * 1000 * MB // 8)
    advices = advice_for([eight_bits], 700)
    assert "Q4_K_M (4.9 bits per weight, now 8.0)" in advices["quantization"].text


def test_advice_names_the_largest_sources_that_fit() -> None:
    models = [model("a", 300), model("b", 500), model("c", 400)]
    assert advice_for(models, 1000)["sources"].sources == ("b", "c")
    assert advice_for(models, 560)["sources"].sources == ("b",)
    assert advice_for(models, 100) == {}


def test_the_refusal_says_how_much_is_there_and_what_would_fit() -> None:
    models = [model("a", 300), model("b", 1500)]
    wishes, room = [Wish()] * 2, Room.of([cpu(99_999)], 600 * MB)
    text = refusal(best_plan(models, wishes, room), advise(models, wishes, room))
    assert text == (
        "Not enough memory for a, b: 1.9 GB of main memory are needed, 600 MB may be used. "
        "What would fit: only the source a."
    )
