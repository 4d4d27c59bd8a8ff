"""sd_notify: tell systemd that we are ready, reloading, stopping, alive (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket


class Notifier:
    """Sends datagrams to ``NOTIFY_SOCKET``; does nothing where there is no systemd."""

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def watchdog_seconds(self) -> float:
        """How often systemd wants to hear us at least, halved; 0 when it does not care."""
        pid = os.environ.get("WATCHDOG_PID", "")
        if pid and pid != str(os.getpid()):
            return 0.0
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6

    def tell(self, *assignments: str) -> None:
        """Send ``READY=1``, ``STATUS=…``, ``WATCHDOG=1``…; a lost datagram is not an error."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto("\n".join(assignments).encode(), self._address)
