"""Embeddings: against a BERT in numpy, against llama-cpp-python, and what is refused."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cf_local
from cf_local.errors import (
    BrokenModelError,
    Cancelled,
    ClosedError,
    ContextError,
    InputError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from cf_local.llama.embedding import LlamaEmbedder, embedding_bytes
from cf_local.llama.library import lib, llama_cpp

tiny = pytest.importorskip("tiny_models", reason="tiny models need the gguf package")
from bert import NumpyBert, pooled  # noqa: E402

TinyModel = Callable[..., Path]
TEXTS = ["the quick brown fox", "a lazy dog.", "fox", "", "the dog jumps over the quick fox."]
LONG = "The quick brown fox jumps over the lazy dog, and she sells 24 shells. " * 8


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny.make_embedding_model(tmp_path_factory.mktemp("bert") / "bert.gguf"))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_bert_is_that_of_numpy(tmp_path: Path, pooling: str) -> None:
    path = tiny.make_embedding_model(tmp_path / "bert.gguf", seed=3, pooling=pooling.upper())
    reference = NumpyBert(path)
    with cf_local.load_embedder(path) as embedder:
        assert embedder.pooling == pooling
        tokens = embedder.encode(TEXTS)
        found = embedder.embed(TEXTS)
    wanted = [pooled(reference.token_vectors(each), pooling) for each in tokens]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-3)  # ggml looks GELU up in 16 bits
    others = [pooled(reference.token_vectors(each[::-1]), pooling) for each in tokens]
    assert np.abs(found - np.array(others)).max() > 0.02


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("arch", ["llama", "mamba"])
def test_a_decoder_is_pooled_over_all_its_passes(
    tiny_model: TinyModel, arch: str, pooling: str
) -> None:
    path = tiny_model(arch)
    texts = ["The fox", LONG, "She sells 24 shells."]
    plain = llama_cpp.Llama(
        str(path), embedding=True, pooling_type=lib.LLAMA_POOLING_TYPE_NONE, n_ctx=1024,
        n_batch=1024, n_ubatch=1024, verbose=False,
    )  # fmt: skip
    model = LlamaEmbedder(path, pooling=pooling)  # type: ignore[arg-type]
    tokens = [model.encode(text) for text in texts]
    assert len(tokens[1]) > 128
    wanted = [pooled(np.array(plain.embed(text)), pooling) for text in texts]
    groups = list(model.groups(tokens))
    found = [model.embed([tokens[index] for index in group]) for group in groups]
    model.close()
    plain.close()
    np.testing.assert_allclose(np.concatenate(found), wanted, atol=1e-4)


def test_a_text_has_the_same_vector_alone(bert: Path) -> None:
    texts = [" ".join(["the quick fox"] * (1 + i % 15)) for i in range(200)]
    with cf_local.load_embedder(bert) as embedder:
        together = embedder.embed(texts)
        alone = np.concatenate([embedder.embed([text]) for text in texts[:20]])
    np.testing.assert_allclose(together[:20], alone, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert together.shape == (200, 32)


def test_groups_have_each_text_once_and_fit(bert: Path) -> None:
    model = LlamaEmbedder(bert)
    texts = [[5] * (1 + 7 * i % 64) for i in range(300)]
    groups = list(model.groups(texts))
    assert [index for group in groups for index in group] == list(range(300))
    assert max(sum(len(texts[i]) for i in group) for group in groups) <= 64
    assert max(map(len, model.groups([[5]] * 300))) <= 64
    assert list(model.groups([])) == []
    model.close()


def test_space_prefix_as_the_model_was_trained(tiny_model: TinyModel) -> None:
    """Sources read texts without it (a word may be cut there); texts to embed are whole."""
    model = LlamaEmbedder(tiny_model("llama", "spm"), pooling="mean")
    plain = llama_cpp.Llama(str(tiny_model("llama", "spm")), vocab_only=True, verbose=False)
    assert model.encode("fox") == plain.tokenize(b"fox", special=False)
    model.close()
    plain.close()


def test_what_is_refused(bert: Path, tiny_model: TinyModel) -> None:
    with cf_local.load_embedder(bert) as embedder:
        with pytest.raises(InputError, match="list of texts"):
            embedder.embed("the fox")
        with pytest.raises(InputError, match="not Unicode"):
            embedder.embed(["\ud800"])
        with pytest.raises(InputError, match="Text 2 of 2 is empty"):
            embedder.embed_tokens([[5], []])
        for token in (-1, 15):
            with pytest.raises(InputError, match="its tokens are 0 to 14"):
                embedder.embed_tokens([[5, token]])
        with pytest.raises(ContextError, match="Text 1 of 1 has 102 tokens"):
            embedder.embed(["fox " * 100])
        assert embedder.embed([]).shape == (0, 32)
    with pytest.raises(ClosedError, match="bert has been closed"):
        embedder.embed(["fox"])
    embedder.close()
    with pytest.raises(UnsupportedModelError, match="not an embedding model"):
        cf_local.load_embedder(tiny_model("llama"))
    with pytest.raises(OutOfMemoryError, match="to embed texts of 2048 tokens"):
        cf_local.load_embedder(bert, options=cf_local.LoadOptions(memory_bytes=10_000))
    with pytest.raises(UnsupportedModelError, match="embedding model"):
        cf_local.load(models=[bert])


def test_a_file_without_a_first_token_does_not_end_the_process(bert: Path, tmp_path: Path) -> None:
    raw = bert.read_bytes().replace(b"bos_token_id", b"bas_token_id")
    (tmp_path / "bad.gguf").write_bytes(raw)
    code = f"import cf_local\ncf_local.load_embedder({str(tmp_path / 'bad.gguf')!r}).embed(['a'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BrokenModelError" in done.stderr
    assert "it has no first token" in done.stderr


def test_a_file_that_does_not_say_how_to_pool(tmp_path: Path) -> None:
    path = tiny.make_embedding_model(tmp_path / "bert.gguf", pooling=None)
    with pytest.raises(UnsupportedModelError, match="set pooling in models"):
        LlamaEmbedder(path)
    LlamaEmbedder(path, pooling="mean").close()


def test_numbers_that_are_none(tmp_path: Path, bert: Path) -> None:
    data = bytearray(bert.read_bytes())
    data[-3000:] = b"\xff\xff\xff\x7f" * 750
    (tmp_path / "nan.gguf").write_bytes(data)
    with (
        cf_local.load_embedder(tmp_path / "nan.gguf") as embedder,
        pytest.raises(BrokenModelError, match="not numbers"),
    ):
        embedder.embed(["the fox"])


def test_cancelled_between_passes(bert: Path, tiny_model: TinyModel) -> None:
    n_asked = 0

    def third_time() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked > 3

    with cf_local.load_embedder(bert) as embedder, pytest.raises(Cancelled):
        embedder.embed(["the quick fox"] * 500, is_cancelled=third_time)
    assert n_asked == 4
    model = LlamaEmbedder(tiny_model("llama"), pooling="mean")
    with pytest.raises(Cancelled):
        model.embed([model.encode(LONG)], lambda: True)
    model.close()


def test_many_threads(bert: Path) -> None:
    texts = [f"the {word} fox" for word in ("quick", "brown", "lazy", "dog")] * 30
    found = {}
    with cf_local.load_embedder(bert) as embedder:
        wanted = embedder.embed(texts)

        def work(number: int) -> None:
            found[number] = embedder.embed(texts[number:])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, vectors in found.items():
        np.testing.assert_allclose(vectors, wanted[number:], atol=1e-4)
    assert len(found) == 8


def test_memory_grows_with_the_longest_text(bert: Path) -> None:
    weights, short = embedding_bytes(bert, 16)
    assert weights == pytest.approx(bert.stat().st_size, rel=0.1)
    assert short < embedding_bytes(bert, 64)[1] == embedding_bytes(bert, 4096)[1]


def test_asyncio(bert: Path) -> None:
    async def main(embedder: cf_local.Embedder) -> None:
        found = await asyncio.gather(*(embedder.aembed(TEXTS) for _ in range(5)))
        for vectors in found:
            np.testing.assert_allclose(vectors, wanted, atol=1e-4)
        task = asyncio.create_task(embedder.aembed(["the quick fox"] * 5000))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(InputError):
            await embedder.aembed_tokens([[99]])

    with cf_local.load_embedder(bert) as embedder:
        wanted = embedder.embed(TEXTS)
        asyncio.run(main(embedder))
    with pytest.raises(ClosedError):
        asyncio.run(embedder.aembed(TEXTS))
