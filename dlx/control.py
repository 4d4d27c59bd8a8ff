"""The local socket between the command line and the running station.

One request, one answer, each a line of JSON. The kernel says who asks (SO_PEERCRED); the person's
name goes to the ledger with what was done. The client side is plain standard library, so that
``dlx status`` starts at once.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dlx.errors import DlxError, NotFound, Refused

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("dlx.control")

Answer: TypeAlias = Any
Handler: TypeAlias = Callable[["Request"], Awaitable[Answer]]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
MAX_LINE = 64 << 20
CONNECT_SECONDS = 5.0


class StationDown(Exception):
    """No station listens on the socket; exit 5."""


class StationBusy(Exception):
    """The station did not answer in time; exit 75."""


class ConfigRefused(Exception):
    """The station refused a configuration; ``problems`` are printed lines; exit 78."""

    def __init__(self, message: str, problems: list[str]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked, and by whom: ``actor`` is the Unix user, as the kernel says."""

    verb: str
    arguments: Mapping[str, Any]
    actor: str


def ask(path: Path, verb: str, arguments: Mapping[str, Any], *, seconds: float = 60.0) -> Answer:
    """Ask the running station.

    Raises StationDown, StationBusy, NotFound, Refused, ConfigRefused.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(CONNECT_SECONDS)
        try:
            line.connect(str(path))
        except OSError as error:
            raise StationDown(str(path)) from error
        line.settimeout(seconds)
        sudo = os.environ.get("SUDO_USER", "")
        question = {
            "verb": verb,
            "arguments": dict(arguments),
            "sudo_user": sudo,
            "user": pwd.getpwuid(os.getuid()).pw_name if _known(os.getuid()) else "",
        }
        try:
            line.sendall(json.dumps(question).encode() + b"\n")
            answer = json.loads(_line(line))
        except TimeoutError as error:
            raise StationBusy from error
        except (OSError, ValueError) as error:
            raise StationDown(str(path)) from error
    match answer.get("error"):
        case None:
            return answer["result"]
        case "not_found":
            raise NotFound(answer["message"])
        case "refused":
            raise Refused(answer["message"])
        case "config":
            raise ConfigRefused(answer["message"], answer.get("problems", []))
        case _:
            raise StationBusy(answer["message"])


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _line(line: socket.socket) -> bytes:
    parts = []
    while part := line.recv(1 << 16):
        parts.append(part)
        if part.endswith(b"\n"):
            return b"".join(parts)
    raise ValueError("réponse coupée")


class ControlServer:
    """The station's end: ``handlers`` by verb, run one after the other on the event loop."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket left by a dead station is replaced (the state lock is ours already)."""
        import asyncio

        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, path=str(self._path), limit=MAX_LINE
        )
        self._path.chmod(0o660)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = json.loads(await reader.readline())
            actor = _actor(writer.get_extra_info("socket"), question)
            answer = await self._answer(
                Request(verb=question["verb"], arguments=question.get("arguments", {}), actor=actor)
            )
            writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, KeyError):
            pass  # the client went away or is not ours
        finally:
            writer.close()

    async def _answer(self, request: Request) -> dict[str, Any]:
        handler = self._handlers.get(request.verb)
        if handler is None:
            return {"error": "refused", "message": f"demande inconnue : {request.verb}"}
        try:
            return {"result": await handler(request)}
        except NotFound as error:
            return {"error": "not_found", "message": str(error)}
        except Refused as error:
            return {"error": "refused", "message": str(error)}
        except ConfigRefused as error:
            return {"error": "config", "message": str(error), "problems": error.problems}
        except DlxError as error:
            return {"error": "temporary", "message": str(error)}
        except Exception as error:
            # a door: one bad request must not take the station down, and its place is logged
            log.exception("event=control_defect verb=%s", request.verb)
            return {"error": "temporary", "message": f"défaut interne ({type(error).__name__})"}


def _overflow_uid() -> int:
    """What the kernel says of users outside our namespace (``PrivateUsers=yes`` of the unit)."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 65534


def _actor(peer: socket.socket, question: Mapping[str, Any]) -> str:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    claimed = str(question.get("user", ""))
    if uid == _overflow_uid() and _NAME.fullmatch(claimed):
        return f"{claimed} (déclaré)"
    # only root may say on whose behalf it acts
    sudo_user = str(question.get("sudo_user", ""))
    return f"{sudo_user} (sudo)" if uid == 0 and _NAME.fullmatch(sudo_user) else name
