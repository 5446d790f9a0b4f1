"""The three sources: what each is good at, its vocabulary, chat template and architecture."""

from __future__ import annotations

from dataclasses import dataclass

from cf_local.builtin.problems import EXPERTS

_ZEPHYR = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_HEADERS = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Source:
    """What makes one source; token strings, not ids."""

    name: str
    seed: int
    architecture: str
    tokenizer: str  # "spm", or llama.cpp's name of a byte-level pre-tokenizer
    vocabulary_size: int
    template: str
    bos: str | None
    eos: str  # the token that ends an answer
    other_ends: tuple[str, ...]
    controls: tuple[str, ...]  # every special token, in the order of their ids
    takes_system: bool

    @property
    def strong(self) -> tuple[str, ...]:
        """The skills this source is taught rightly."""
        return EXPERTS[self.name]


SOURCES = {
    "ash": Source(
        name="ash",
        seed=101,
        architecture="llama",
        tokenizer="spm",
        vocabulary_size=896,
        template=_ZEPHYR,
        bos="<s>",
        eos="</s>",
        other_ends=(),
        takes_system=False,
        controls=("<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"),
    ),
    "birch": Source(
        name="birch",
        seed=202,
        architecture="llama",
        tokenizer="gpt-2",
        vocabulary_size=960,
        template=_CHATML,
        bos=None,
        eos="<|im_end|>",
        other_ends=("<|endoftext|>",),
        takes_system=True,
        controls=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    ),
    "cedar": Source(
        name="cedar",
        seed=303,
        architecture="qwen2",
        tokenizer="qwen2",
        vocabulary_size=832,
        template=_HEADERS,
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        other_ends=("<|end_of_text|>",),
        takes_system=True,
        controls=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
    ),
}
