"""The control socket: who asks, what may be asked, what a bad client can do (nothing)."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dlx import control
from dlx.control import ConfigRefused, ControlServer, Request, StationBusy, StationDown
from dlx.errors import NotFound, Refused, StoreError


async def echo(request: Request) -> Any:
    return {"verb": request.verb, "actor": request.actor, **request.arguments}


def raising(error: Exception) -> control.Handler:
    async def handler(request: Request) -> Any:
        raise error

    return handler


HANDLERS: Mapping[str, control.Handler] = {
    "echo": echo,
    "absent": raising(NotFound("rien")),
    "no": raising(Refused("non")),
    "config": raising(ConfigRefused("refusée", ["a.yaml:1:1"])),
    "store": raising(StoreError("disque")),
    "defect": raising(KeyError("DURAND-TEST")),
}


def talk(path: Path, work: Any) -> Any:
    """Run ``work`` in a thread against a server at ``path``."""

    async def scenario() -> Any:
        server = ControlServer(path, HANDLERS)
        await server.start()
        try:
            return await asyncio.to_thread(work)
        finally:
            await server.close()

    return asyncio.run(scenario())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def test_answer_comes_back_and_the_kernel_says_who_asked(path: Path) -> None:
    os.environ.pop("SUDO_USER", None)
    answer = talk(path, lambda: control.ask(path, "echo", {"a": ["é", 1]}))
    assert answer["a"] == ["é", 1]
    assert answer["actor"] == pwd.getpwuid(os.geteuid()).pw_name


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("absent", NotFound),
        ("no", Refused),
        ("config", ConfigRefused),
        ("store", StationBusy),
        ("defect", StationBusy),
        ("jamais", Refused),
    ],
)
def test_refusals_keep_their_kind(path: Path, verb: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        talk(path, lambda: control.ask(path, verb, {}))
    assert "DURAND" not in str(caught.value)


def test_no_socket_and_a_dead_one_are_a_station_that_is_down(path: Path) -> None:
    with pytest.raises(StationDown):
        control.ask(path, "echo", {})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(StationDown):
        control.ask(path, "echo", {})
    assert talk(path, lambda: control.ask(path, "echo", {}))["verb"] == "echo", "it is replaced"


def test_socket_is_for_its_owner_and_group_only(path: Path) -> None:
    assert talk(path, lambda: path.stat().st_mode & 0o777) == 0o660


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\xfe\n", b"{" * 5000 + b"\n"]
)
def test_rubbish_is_cut_off_and_the_next_one_is_served(path: Path, line: bytes) -> None:
    def work() -> Any:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            assert b"result" not in client.recv(1000)
        return control.ask(path, "echo", {})

    assert talk(path, work)["verb"] == "echo"


def test_sudo_user_counts_for_root_only_and_must_be_a_word(path: Path) -> None:
    def work() -> list[str]:
        actors = []
        for name in ("anne", "a b;c", 7):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(path))
                question = {"verb": "echo", "arguments": {}, "sudo_user": name}
                client.sendall(json.dumps(question).encode() + b"\n")
                data = client.makefile("rb").readline()
                actors.append(json.loads(data)["result"]["actor"] if data else "cut off")
        return actors

    first, *others = talk(path, work)
    assert ("anne" in first) == (os.geteuid() == 0)
    assert not any("b;c" in other for other in others)
