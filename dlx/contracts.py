"""What a contributor writes: a Format (a record of pure functions) or a Connector (a class)."""

from __future__ import annotations

import dataclasses
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from dlx.delivery import Accepted, Delivery, Incoming, Receipt, Rendition
from dlx.errors import ParseError
from dlx.report import Person, Report

Committing: TypeAlias = Callable[[], Awaitable[None]]
Options: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """A remark of a reader on the file: what is odd, where; never a value of the report."""

    code: str
    message: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedPart:
    """A message of a batch that could not be read, while others could."""

    position: int
    error: ParseError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a reader found in one file.

    Attributes:
        reports: one or more, in file order.
        diagnostics: repairs and oddities; nothing was changed without one.
        refused: messages of a batch that could not be read.
        several_expected: True when the file says itself that it holds several messages (batch).
    """

    reports: tuple[Report, ...]
    diagnostics: tuple[Diagnostic, ...] = ()
    refused: tuple[RefusedPart, ...] = ()
    several_expected: bool = False


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format, as a record of plain functions.

    A format knows the shape of a file. It knows no address, key, clock, disk or network: the same
    arguments always give the same bytes.

    Attributes:
        name: the word operators write, for example ``hprim``.
        suffix: file name ending, with its dot.
        recognises: True when the first 4096 bytes look like this format.
        parse: bytes and reading options to Parsed. Raises ParseError, nothing else. None when DLX
            only writes it.
        render: Report, addressee and options to Rendition. Raises RenderError. None when DLX only
            reads it.
        reading: the options a pickup may set for reading, with their default values.
        options: the options a route may set for rendering, with their default values.
        addressed: True when the bytes name the addressee, so that one rendition per recipient is
            needed; False when one rendition serves all.
    """

    name: str
    suffix: str
    recognises: Callable[[bytes], bool]
    parse: Callable[[bytes, Options], Parsed] | None = None
    render: Callable[[Report, Person, Options], Rendition] | None = None
    reading: Options = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    addressed: bool = False


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A key, certificate or password file, named in YAML as ``key:NAME``, ``cred:NAME``, ``file:``.

    Attributes:
        reference: as written, for messages. path: where it is.
    """

    reference: str
    path: Path

    def read_secret(self) -> bytes:
        """Return the content. Raises PermissionError when others than its owner may read it."""
        mode = self.path.stat().st_mode
        # systemd shows its credentials as 0440, though nobody else can enter their folder
        if not self.reference.startswith("cred:") and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(
                f"{self.reference} : droits {stat.S_IMODE(mode):04o}, 0600 attendu (chmod 600)"
            )
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A certificate or key of a channel and when it ends; ``name`` is what operators call it."""

    name: str
    ends_at: datetime


def setting(help: str, default: Any = dataclasses.MISSING, **more: Any) -> Any:
    """Declare one field of a connector's Settings: its sentence is the documentation.

    ``more`` may hold ``choices`` (tuple of words), ``example``. Types understood by ``settings``:
    str, int, bool, float (seconds, written ``30s 15m 4h 3d``), Path, SecretFile,
    tuple[str, ...], tuple[SecretFile, ...] and any of them or None.
    """
    metadata = {"help": help, **more}
    if default is dataclasses.MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


class Connector(ABC):
    """A way out of the laboratory.

    A connector carries bytes it does not read. It owns its connection, keys and timeouts; the
    ledger, retries and notices belong to the caller. It is built with one argument, an instance of
    its own frozen ``Settings`` dataclass, and touches neither network nor disk until asked.

    Attributes:
        name: the word operators write after ``type:``.
        Settings: the frozen, keyword-only dataclass of its settings (fields made by ``setting``).
        Address: the same for what a route may say (``to:`` is ``address``); its fields arrive as
            text in ``delivery.options``. None when a route has nothing to say.
        finds_repeats: True when ``deliver``, called again after a doubt, looks first and never
            leaves a second copy (folders, SFTP); False where nobody can look (mail).
        gives_receipts: True when proof of delivery may come back later (``receipts``); only then
            does the lack of it mean anything.
        concurrency: how many deliveries it can usefully carry at once, by default.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Any]]
    Address: ClassVar[type[Any] | None] = None
    finds_repeats: ClassVar[bool] = False
    gives_receipts: ClassVar[bool] = False
    concurrency: ClassVar[int] = 4

    @abstractmethod
    def __init__(self, settings: Any) -> None:
        """``settings`` is an instance of ``Settings``."""

    @abstractmethod
    async def deliver(
        self, delivery: Delivery, renditions: Sequence[Rendition], committing: Committing
    ) -> Accepted:
        """Hand the renditions to the next hop, once, all of them or none.

        Awaits ``committing()`` exactly once, after the last refusal that costs nothing and before
        the first byte that can commit the far side (after 354, before the final rename): the ledger
        then holds the intent durably. When an earlier attempt is found complete at the far side, it
        still awaits ``committing()`` once, then returns. An exception of ``committing()`` is never
        caught: clean up and let it pass.

        Called again with the same ``delivery.id`` after a crash, so the far side must be able to
        recognise the repeat (same Message-ID, same file name).

        Raises:
            TemporaryFailure: the same call may succeed later; nothing arrived.
            PermanentFailure: the same call will always fail; nothing arrived.
            InDoubt: after ``committing()``, no complete answer: it may have arrived.
        """

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Yield the receipts that arrived since the last call. Default: none."""
        none: tuple[Receipt, ...] = ()
        for receipt in none:
            yield receipt

    async def incoming(self) -> AsyncIterator[Incoming]:
        """Yield the files the far side left for us. Default: none.

        A file is removed over there when the next one is asked for, so a crash fetches it again and
        loses nothing.
        """
        none: tuple[Incoming, ...] = ()
        for file in none:
            yield file

    async def probe(self) -> None:
        """Connect and leave, sending nothing. Raises DeliveryError. Default: pass."""

    async def close(self) -> None:
        """Close connections; the connector may be used again afterwards. Default: pass."""

    def check(self) -> Sequence[str]:
        """Open keys and files without touching the network; French sentences of what is wrong.

        A sentence that begins with « attention » is a warning: the channel can be used.
        """
        return ()

    def check_address(self, address: str, options: Options) -> Sequence[str]:
        """What is wrong with a route to ``address`` on this channel; asked by ``dlx check``.

        A sentence that begins with « attention » is a warning: deliveries to it will fail, with
        their notice, but the other routes of the configuration may go into force.
        """
        return ()

    def expiries(self) -> Sequence[Expiry]:
        """Certificates and keys with an end, so that the station warns in time."""
        return ()
