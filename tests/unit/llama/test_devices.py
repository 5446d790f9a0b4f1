"""The devices of other machines, where llama.cpp was built for them."""

import pytest

from cf_local.errors import InputError
from cf_local.llama.devices import backends, devices
from cf_local.planning.memory import RPC_VARIABLE


def test_servers_that_cannot_be_used_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RPC_VARIABLE, "127.0.0.1:1, ")
    says = "no rpc-server at 127.0.0.1:1" if "RPC" in backends() else "has no RPC backend"
    with pytest.raises(InputError, match=says):
        devices()
    monkeypatch.setenv(RPC_VARIABLE, " , ")
    assert devices()
