"""The devices that llama.cpp can compute on, from the backends that it was built with.

A build with the RPC backend can also compute on the devices of ``ggml-rpc-server`` processes on
other machines, for a model that is too large for any one of them (docs/cluster.md).
"""

import ctypes
import os
import socket
import struct
from functools import cache

from cf_local.errors import InputError
from cf_local.llama.ggml import HANDLE, function, text
from cf_local.llama.library import lib
from cf_local.planning.memory import RPC_VARIABLE, Device, DeviceKind, main_memory

__all__ = ["Device", "backends", "device_handle", "devices"]

_RPC_S = 10.0  # for a server to answer a greeting
_RPC_HELLO = struct.pack("<BQ24x", 14, 24)  # command, size of its data, no capabilities
_RPC_MAJOR = 7  # of the protocol of the pinned llama.cpp (RPC_PROTO_MAJOR_VERSION)
_KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "igpu"}  # GGML_BACKEND_DEVICE_TYPE_*


def devices() -> tuple[Device, ...]:
    """All devices in llama.cpp's order, with the memory that is available now.

    Raises InputError if servers are named that cannot be used.
    """
    lib.llama_backend_init()
    _add_servers(os.environ.get(RPC_VARIABLE, ""))
    count = int(function("ggml_backend_dev_count", ctypes.c_size_t)())
    get = function("ggml_backend_dev_get", HANDLE, ctypes.c_size_t)
    return tuple(_device(get(index)) for index in range(count))


def backends() -> tuple[str, ...]:
    """The names of the backends that llama.cpp was built with, such as ("CUDA", "CPU")."""
    lib.llama_backend_init()
    count = int(function("ggml_backend_reg_count", ctypes.c_size_t)())
    get = function("ggml_backend_reg_get", HANDLE, ctypes.c_size_t)
    return tuple(text("ggml_backend_reg_name", get(index)) for index in range(count))


@cache
def _add_servers(addresses: str) -> None:
    """Make the devices of RPC servers known. Raises InputError."""
    names = list(dict.fromkeys(filter(None, map(str.strip, addresses.split(",")))))
    if not names:
        return
    by_name = function("ggml_backend_reg_by_name", HANDLE, ctypes.c_char_p)
    registry = by_name(b"RPC")
    if not registry:
        raise InputError(
            f"{RPC_VARIABLE} names servers, but the installed llama-cpp-python has no RPC backend. "
            'Install one with CMAKE_ARGS="-DGGML_RPC=ON" pip install --force-reinstall '
            "--no-cache-dir --no-binary llama-cpp-python llama-cpp-python==0.3.36, or unset it."
        )
    find = function("ggml_backend_reg_get_proc_address", HANDLE, HANDLE, ctypes.c_char_p)
    add = ctypes.CFUNCTYPE(HANDLE, ctypes.c_char_p)(find(registry, b"ggml_backend_rpc_add_server"))
    for name in names:
        _check_server(name)  # llama.cpp ends the process if it cannot reach one
    for name in names:
        function("ggml_backend_register", None, HANDLE)(add(name.encode()))


def _check_server(name: str) -> None:
    """Greet the RPC server at HOST:PORT as llama.cpp does. Raises InputError."""
    host, _, port = name.rpartition(":")
    if not (host and port.isdecimal()):
        raise InputError(f"{RPC_VARIABLE}: {name!r} is not an address. Use HOST:PORT.")
    try:
        with socket.create_connection((host, int(port)), timeout=_RPC_S) as connection:
            connection.sendall(_RPC_HELLO)
            reply = connection.makefile("rb").read(8 + 1)  # the size of the answer, and its start
    except TimeoutError:
        raise InputError(
            f"{RPC_VARIABLE}: {name} does not answer. A ggml-rpc-server serves one client at a "
            "time: end the program that uses it, or start another server."
        ) from None
    except (OSError, OverflowError) as error:
        raise InputError(
            f"{RPC_VARIABLE}: there is no ggml-rpc-server at {name} ({error}). Start it there "
            "(ggml-rpc-server --host ADDRESS --port PORT), or check the address."
        ) from error
    if len(reply) < 9 or reply[8] != _RPC_MAJOR:
        raise InputError(
            f"{RPC_VARIABLE}: what listens at {name} is not a ggml-rpc-server of this version. "
            "Build it from the llama.cpp that the installed llama-cpp-python contains."
        )


def device_handle(name: str) -> int | None:
    """llama.cpp's handle of a device by its name; None if there is none."""
    handle: int | None = function("ggml_backend_dev_by_name", HANDLE, ctypes.c_char_p)(
        name.encode()
    )
    return handle


def _device(handle: int) -> Device:
    kind_of = function("ggml_backend_dev_type", ctypes.c_int, HANDLE)
    kind = _KINDS.get(kind_of(handle), "accelerator")
    registry = function("ggml_backend_dev_backend_reg", HANDLE, HANDLE)(handle)
    total, available = _memory(handle, kind)
    return Device(
        name=text("ggml_backend_dev_name", handle),
        description=text("ggml_backend_dev_description", handle),
        kind=kind,
        backend=text("ggml_backend_reg_name", registry),
        total_bytes=total,
        available_bytes=available,
    )


def _memory(handle: int, kind: DeviceKind) -> tuple[int, int]:
    """Total and available bytes; for main memory, what the system and the container allow."""
    if kind in ("cpu", "accelerator"):  # llama.cpp counts free memory, or nothing
        memory = main_memory()
        return memory.total_bytes, memory.available_bytes
    pointer = ctypes.POINTER(ctypes.c_size_t)
    ask = function("ggml_backend_dev_memory", None, HANDLE, pointer, pointer)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ask(handle, ctypes.byref(free), ctypes.byref(total))
    return total.value, free.value
