"""A real OpenSSH server on loopback: internal-sftp, our own keys, nothing of the machine's.

It logs in the user who runs the tests, so no account is made. Root gets a chroot, others a starting
folder. Its directory must not lie below a world-writable one, or StrictModes refuses the key.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SSHD = "/usr/sbin/sshd"
_START_SECONDS = 10.0


class OpensshPeer:
    """One sshd; use as a context manager.

    Args:
        sftp_options: after ``internal-sftp``: ``-R`` read-only, ``-P posix-rename``…

    Attributes:
        root: what the clients see. port, user, client_key (path), fingerprint: how to get in.
    """

    def __init__(self, *sftp_options: str) -> None:
        self._options = " ".join(["internal-sftp", *sftp_options])
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.port = _free_port()
        self.fingerprint = ""

    @property
    def process_id(self) -> int:
        """Of the listening sshd; its children are the sessions."""
        return self._process.pid

    @staticmethod
    def missing() -> str:
        """Why this peer cannot run here, or ""."""
        for program in (SSHD, "ssh-keygen"):
            if shutil.which(program) is None:
                return f"{program} is not installed"
        return ""

    def __enter__(self) -> OpensshPeer:
        is_root = os.getuid() == 0
        if is_root:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.base = Path(
            tempfile.mkdtemp(prefix="dlx-sshd-", dir="/run" if is_root else Path.home())
        )
        self.base.chmod(0o755)
        self.root = self.base / "chroot"
        self.root.mkdir(mode=0o755)
        self.client_key = self._key("client")
        host_key = self._key("host")
        self.host_key_line = (self.base / "host.pub").read_text().strip()
        self.fingerprint = _output("ssh-keygen", "-lf", str(host_key)).split()[1]
        shutil.copy(self.base / "client.pub", self.base / "authorized")
        (self.base / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {self.host_key_line}\n")
        self._configure(host_key, chroot=is_root)
        self._process = subprocess.Popen(
            [SSHD, "-D", "-f", str(self.base / "config"), "-E", str(self.base / "log")]
        )
        self._await_port()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self.base)

    def _key(self, name: str) -> Path:
        path = self.base / name
        _output("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
        return path

    def _configure(self, host_key: Path, *, chroot: bool) -> None:
        home = f"ChrootDirectory {self.root}" if chroot else ""
        start = "" if chroot else f" -d {self.root}"
        (self.base / "config").write_text(
            f"""
Port {self.port}
ListenAddress 127.0.0.1
HostKey {host_key}
PidFile {self.base}/pid
AuthorizedKeysFile {self.base}/authorized
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
LogLevel VERBOSE
AllowUsers {self.user}
Subsystem sftp {self._options}{start}
AllowTcpForwarding no
PermitTTY no
ForceCommand {self._options}{start}
{home}
"""
        )

    def _await_port(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.02)
            else:
                return
        raise RuntimeError(f"sshd did not start: {(self.base / 'log').read_text()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
