"""The devices of other machines, where llama.cpp was built for them."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from cf_local.errors import InputError
from cf_local.llama import devices as module
from cf_local.llama import model
from cf_local.llama.devices import backends, devices
from cf_local.planning.memory import RPC_VARIABLE


def test_servers_that_cannot_be_used_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RPC_VARIABLE, "127.0.0.1:1, ")
    says = "no ggml-rpc-server at 127.0.0.1:1" if "RPC" in backends() else "has no RPC backend"
    with pytest.raises(InputError, match=says):
        devices()
    monkeypatch.setenv(RPC_VARIABLE, " , ")
    assert devices()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_devices_are_those_of_the_library_that_loads_models() -> None:
    # A wheel has copies of libggml under several names; devices that another copy gets to know,
    # such as RPC servers, do not exist for libllama.
    code = """if True:
        from cf_local.llama.devices import devices
        devices()
        with open("/proc/self/maps", encoding="utf-8") as file:
            print(len({line.split()[-1] for line in file if "/libggml.so" in line}))
        """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() in ("0", "1")  # none where ggml is part of libllama


def test_llama_cpp_is_told_how_many_layers_each_device_gets() -> None:
    params, _referenced = model._params(None, ["CPU", "CPU"], [8, 3], embeds=False)
    assert [params.tensor_split[i] for i in range(3)] == [8.0, 3.0, 0.0]
    for split in ([], [11]):
        params, _referenced = model._params(None, ["CPU"], split, embeds=False)
        assert not params.tensor_split


class Listener:
    """Accepts one connection, keeps what comes first, and sends ``reply`` unless it is None."""

    def __init__(self, reply: bytes | None) -> None:
        self.received = b""
        self._reply = reply
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            self.received = connection.recv(1024)
            if self._reply is None:
                connection.recv(1)  # until the other side gives up
            else:
                connection.sendall(self._reply)

    def close(self) -> None:
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    found = Listener(request.param)
    yield found
    found.close()


def hello(major: int) -> bytes:
    return struct.pack("<QBBBB24x", 28, major, 0, 0, 0)


@pytest.mark.parametrize("listener", [hello(7)], indirect=True)
def test_a_server_is_greeted_as_llama_cpp_does(listener: Listener) -> None:
    module._check_server(listener.name)
    assert listener.received == bytes([14, 24]) + bytes(7 + 24)


@pytest.mark.parametrize(
    "listener", [hello(6), b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], indirect=True
)
def test_what_is_no_server_of_this_version_is_refused(listener: Listener) -> None:
    with pytest.raises(InputError, match="not a ggml-rpc-server of this version"):
        module._check_server(listener.name)


@pytest.mark.parametrize("listener", [None], indirect=True)
def test_a_server_with_another_client_is_not_waited_for(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RPC_S", 0.2)
    with pytest.raises(InputError, match=r"does not answer.*one client at a time"):
        module._check_server(listener.name)


@pytest.mark.parametrize("name", ["somewhere", "somewhere:", ":50052", "here:port"])
def test_an_address_has_a_host_and_a_port(name: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT"):
        module._check_server(name)


@pytest.mark.parametrize("name", ["127.0.0.1:1", "127.0.0.1:99999", "no.such.host.invalid:50052"])
def test_a_server_that_is_not_there_does_not_end_the_process(name: str) -> None:
    with pytest.raises(InputError, match=f"no ggml-rpc-server at {name}"):
        module._check_server(name)
