"""A BERT in numpy, read from its GGUF file: what an embedding must be."""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class NumpyBert:
    """Token vectors of a file that `tiny_models.make_embedding_model` wrote."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.weights = {t.name: np.asarray(t.data, np.float64) for t in reader.tensors}
        self.n_head = int(reader.fields["bert.attention.head_count"].contents())
        self.epsilon = float(reader.fields["bert.attention.layer_norm_epsilon"].contents())

    def token_vectors(self, tokens: list[int]) -> Floats:
        """Shape (n_tokens, n_embd), after the last layer."""
        w = self.weights
        x = w["token_embd.weight"][tokens] + w["token_types.weight"][0]
        x = self._norm(x + w["position_embd.weight"][: len(tokens)], "token_embd_norm")
        for layer in range(sum(name.endswith("attn_q.weight") for name in w)):
            x = self._layer(x, f"blk.{layer}")
        return x

    def _layer(self, x: Floats, blk: str) -> Floats:
        heads = [self._linear(x, f"{blk}.attn_{part}") for part in "qkv"]
        q, k, v = (h.reshape(len(x), self.n_head, -1).transpose(1, 0, 2) for h in heads)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(x.shape)
        x = self._norm(x + self._linear(mixed, f"{blk}.attn_output"), f"{blk}.attn_output_norm")
        up = self._linear(x, f"{blk}.ffn_up")
        gelu = up * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        return self._norm(x + self._linear(gelu, f"{blk}.ffn_down"), f"{blk}.layer_output_norm")

    def _linear(self, x: Floats, name: str) -> Floats:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(x.var(-1, keepdims=True) + self.epsilon)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def pooled(vectors: npt.NDArray[np.floating], how: str) -> Floats:
    """One vector of length 1 of those of the tokens."""
    one = {"mean": vectors.mean(0), "cls": vectors[0], "last": vectors[-1]}[how]
    return np.asarray(one / np.linalg.norm(one), np.float64)
