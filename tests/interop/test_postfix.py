"""Through a real Postfix, to a next server with and without 8BITMIME: the mail still verifies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.smime_mail import SmimeMailConnector, SmimeMailSettings
from dlx.contracts import SecretFile
from dlx.errors import PermanentFailure
from dlx.testing.connector_contract import RENDITION, delivery_to, in_one_loop, no_commitment
from dlx.testing.mailreader import open_mail
from dlx.testing.peers.smtp import SmtpPeer
from dlx.testing.pki import Identity, TestPki

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("postfix"), reason="Postfix is absent"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix wants root"),
]

DOCTOR = "doc@clinic.test"
SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def _main(base: Path, server: Identity, next_port: int) -> str:
    known = subprocess.run(
        ["postconf", "-d", "daemon_directory", "command_directory"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return f"""{known}compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/log/mail.log
maillog_file_prefixes = {base}
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.labo.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
alias_maps =
alias_database =
local_recipient_maps =
relay_domains = clinic.test
relay_recipient_maps = inline:{{ {DOCTOR}=x }}
relayhost = [127.0.0.1]:{next_port}
relay_transport = relay:[127.0.0.1]:{next_port}
smtpd_tls_cert_file = {server.certificate_pem}
smtpd_tls_key_file = {server.pem}
smtpd_tls_security_level = encrypt
"""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(params=["8BITMIME", "7BIT"])
def following(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmtpPeer]:
    extensions = ("PIPELINING", "8BITMIME") if request.param == "8BITMIME" else ("PIPELINING",)
    with SmtpPeer(tmp_path / "next", extensions=extensions) as peer:
        yield peer


@pytest.fixture
def postfix(pki: TestPki, following: SmtpPeer) -> Iterator[int]:
    """A private Postfix; its port. It must be able to enter its folder: not below /root."""
    base = Path(tempfile.mkdtemp(prefix="dlx-postfix-"))
    base.chmod(0o755)
    for name in ("conf", "queue", "data", "log"):
        (base / name).mkdir()
    shutil.chown(base / "data", "postfix")
    port = _free_port()
    (base / "conf" / "main.cf").write_text(_main(base, pki.server(), following.port))
    (base / "conf" / "master.cf").write_text(SERVICES.format(port=port))
    running = subprocess.Popen(
        ["postfix", "-c", str(base / "conf"), "start-fg"],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(port, base)
        yield port
    finally:
        subprocess.run(["postfix", "-c", str(base / "conf"), "stop"], capture_output=True)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(10)
        shutil.rmtree(base, ignore_errors=True)


def _wait_for(port: int, base: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as line:
                line.settimeout(5)
                if line.recv(4) == b"220 ":
                    return
        except OSError:
            subprocess.run(["sleep", "0.1"], check=True)
    log = base / "log" / "mail.log"
    pytest.fail(f"Postfix did not start: {log.read_text() if log.exists() else ''}")


def test_mail_verifies_behind_postfix_and_an_unknown_mailbox_is_permanent(
    pki: TestPki, postfix: int, following: SmtpPeer
) -> None:
    lab, doctor = pki.person("resultats@labo.test"), pki.person(DOCTOR)
    pki.person("nobody@clinic.test", key=doctor.key)
    connector = SmimeMailConnector(
        SmimeMailSettings(
            smtp=f"smtp+starttls://localhost:{postfix}",
            sender="resultats@labo.test",
            identity=SecretFile("key:labo", lab.pem),
            smime="sign+encrypt",
            trust=(pki.root_pem,),
            certificates=pki.folder,
            ca=pki.root_pem,
            receipts=False,
        )
    )

    async def both() -> str:
        accepted = await connector.deliver(delivery_to(DOCTOR), [RENDITION], no_commitment)
        with pytest.raises(PermanentFailure) as caught:
            stranger = delivery_to("nobody@clinic.test")
            await connector.deliver(stranger, [RENDITION], no_commitment)
        assert caught.value.code == "smtp-550"
        return accepted.words

    assert "queued as" in in_one_loop(connector, both)
    deadline = time.monotonic() + 15
    while not following.stored and time.monotonic() < deadline:
        subprocess.run(["sleep", "0.1"], check=True)
    (arrived,) = following.stored
    opened = open_mail(arrived.message, doctor, pki.root_pem)
    assert opened.attachments[0][2] == RENDITION.content
