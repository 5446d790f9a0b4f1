"""The clients: what each needs to use the server, as lines to copy, and as additions to a file."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import click

from cf_local.cli.connect.additions import with_json, with_toml, with_yaml_item, with_yaml_keys

_N_CONTEXT = 16_384  # tokens, for the long prompts of agents
_AGENT = f"Agents send long prompts: start the server with --context {_N_CONTEXT}."
_LONG_AGENT = "It sends 22,000 tokens with every question: start the server with --context 32768."


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is, without a path, and which model to use of it."""

    address: str
    model: str
    key: str = "none"

    @property
    def v1(self) -> str:
        """The address of OpenAI's interface."""
        return f"{self.address}/v1"

    def fill(self, text: str) -> str:
        """Put this in the place of $address, $v1, $model and $key."""
        return Template(text).substitute(
            address=self.address, v1=self.v1, model=self.model, key=self.key
        )


@dataclass(frozen=True, slots=True)
class Client:
    """A program or a package that can use the server.

    ``text`` are lines to copy; a client with a ``file`` has an ``add`` instead, which adds what it
    needs to the text of that file. ``where`` says what to do with the lines.
    """

    title: str
    where: str
    text: str = ""
    file: Callable[[], Path] | None = None
    add: Callable[[str, Connection], str] | None = None

    def lines(self, connection: Connection) -> str:
        """The lines that the client needs."""
        return self.add("", connection) if self.add else connection.fill(self.text)


def _config_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _llm_file() -> Path:
    folder = os.environ.get("LLM_USER_PATH") or click.get_app_dir("io.datasette.llm")
    return Path(folder) / "extra-openai-models.yaml"


def _continue_file() -> Path:
    folder = os.environ.get("CONTINUE_GLOBAL_DIR") or Path.home() / ".continue"
    return Path(folder) / "config.yaml"


def _zed_file() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home())) / "Zed" / "settings.json"
    return _config_folder() / "zed" / "settings.json"


def _add_llm(text: str, to: Connection) -> str:
    item = {
        "model_id": to.model,
        "model_name": to.model,
        "api_base": to.v1,
        "supports_tools": True,
        "supports_schema": True,
    }
    return with_yaml_item(text, item, named="model_id")


def _add_aider(text: str, to: Connection) -> str:
    return with_yaml_keys(
        text,
        {"model": f"openai/{to.model}", "openai-api-base": to.v1, "openai-api-key": to.key},
    )


def _add_continue(text: str, to: Connection) -> str:
    item = {
        "name": f"cf-local {to.model}",
        "provider": "openai",
        "model": to.model,
        "apiBase": to.v1,
        "apiKey": to.key,
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use"],
    }
    start = text if text.strip() else "name: Local\nversion: 1.0.0\nschema: v1\n"
    return with_yaml_item(start, item, key="models")


def _add_opencode(text: str, to: Connection) -> str:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "cf-local",
        "options": {"baseURL": to.v1, "apiKey": to.key},
        "models": {to.model: {"name": to.model}},
    }
    return with_json(text, {"provider": {"cf-local": provider}})


def _codex_file() -> Path:
    # A profile has a file of its own; chosen by --profile, it leaves the user's settings alone.
    return Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex") / "cf-local.config.toml"


def _add_codex(text: str, to: Connection) -> str:
    provider = {
        "name": "cf-local",
        "base_url": to.v1,
        "wire_api": "responses",
        "http_headers": {"Authorization": f"Bearer {to.key}"},
    }
    return with_toml(
        text,
        {
            "model": to.model,
            "model_provider": "cf-local",
            "model_providers": {"cf-local": provider},
        },
    )


def _add_zed(text: str, to: Connection) -> str:
    model = {
        "name": to.model,
        "max_tokens": _N_CONTEXT,
        "capabilities": {  # Zed's settings require all four
            "tools": True,
            "images": False,
            "parallel_tool_calls": True,
            "prompt_cache_key": False,
        },
    }
    provider = {"api_url": to.v1, "available_models": [model]}
    return with_json(text, {"language_models": {"openai_compatible": {"cf-local": provider}}})


_SHELL = "In the shell that starts it:"

CLIENTS: Mapping[str, Client] = {
    "open-webui": Client(
        "Open WebUI",
        f"{_SHELL} (or in Admin Settings, Connections, OpenAI API)",
        """\
export OPENAI_API_BASE_URL=$v1
export OPENAI_API_KEY=$key
export DEFAULT_MODELS=$model
# Without the tools that it adds to every question: 7,000 tokens, too many for small models.
export DEFAULT_MODEL_METADATA='{"capabilities": {"builtin_tools": false}}'
open-webui serve
""",
    ),
    "llm": Client(
        "llm, the command line tool",
        "Then: llm -m MODEL 'What is 7 times 8?'",
        file=_llm_file,
        add=_add_llm,
    ),
    "aider": Client(
        "aider",
        "Then: aider",
        file=lambda: Path.home() / ".aider.conf.yml",
        add=_add_aider,
    ),
    "continue": Client(
        "Continue, in VS Code, JetBrains and the terminal",
        "Then choose it in the list of models.",
        file=_continue_file,
        add=_add_continue,
    ),
    "opencode": Client(
        "opencode",
        f"Then: opencode --model cf-local/MODEL. {_AGENT}",
        file=lambda: _config_folder() / "opencode" / "opencode.json",
        add=_add_opencode,
    ),
    "codex": Client(
        "Codex, OpenAI's agent",
        f"Then: codex --profile cf-local. {_AGENT}",
        file=_codex_file,
        add=_add_codex,
    ),
    "zed": Client(
        "Zed",
        f"Then start Zed with CF_LOCAL_API_KEY set (to 'none' if the server has no key). {_AGENT}",
        file=_zed_file,
        add=_add_zed,
    ),
    "openai": Client(
        "openai, the package for Python",
        "In a program:",
        """\
from openai import OpenAI

client = OpenAI(base_url="$v1", api_key="$key")
answer = client.chat.completions.create(
    model="$model", messages=[{"role": "user", "content": "What is 7 times 8?"}]
)
print(answer.choices[0].message.content)
""",
    ),
    "env": Client(
        "programs that read OpenAI's variables",
        _SHELL,
        """\
export OPENAI_BASE_URL=$v1
export OPENAI_API_BASE=$v1
export OPENAI_API_KEY=$key
""",
    ),
    "claude-code": Client(
        "Claude Code, and the anthropic packages",
        f"{_LONG_AGENT} {_SHELL}",
        """\
export ANTHROPIC_BASE_URL=$address
export ANTHROPIC_AUTH_TOKEN=$key
export ANTHROPIC_MODEL=$model
export ANTHROPIC_DEFAULT_HAIKU_MODEL=$model
# It gives up when it reads no word for five minutes; that may be too short for a long prompt.
export CLAUDE_STREAM_IDLE_TIMEOUT_MS=3600000
export API_TIMEOUT_MS=3600000
""",
    ),
    "ollama": Client(
        "the ollama packages, and clients that only speak Ollama's interface",
        f"{_SHELL} (or as the address of Ollama in its settings)",
        "export OLLAMA_HOST=$address\n",
    ),
    "litellm": Client(
        "LiteLLM",
        "In a program:",
        """\
import litellm

answer = litellm.completion(
    model="openai/$model", api_base="$v1", api_key="$key",
    messages=[{"role": "user", "content": "What is 7 times 8?"}],
)
print(answer.choices[0].message.content)
""",
    ),
    "langchain": Client(
        "LangChain",
        "In a program (pip install langchain-openai):",
        """\
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="$model", base_url="$v1", api_key="$key")
print(model.invoke("What is 7 times 8?").content)
""",
    ),
}
"""All clients, by the name that the command takes."""
