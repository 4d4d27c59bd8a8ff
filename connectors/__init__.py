"""The connectors DLX ships, by their ``type:``. One line each; see README.md to add one."""

from __future__ import annotations

from connectors.folder import FolderConnector
from connectors.sftp import SftpConnector
from connectors.smime_mail import SmimeMailConnector
from dlx.contracts import Connector

CONNECTORS: dict[str, type[Connector]] = {
    "folder": FolderConnector,
    "sftp": SftpConnector,
    "smime-mail": SmimeMailConnector,
}
