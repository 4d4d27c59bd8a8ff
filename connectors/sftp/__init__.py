"""`sftp`: files to a clinic's server.

settings    what the operator writes          session   socket, host key, login
hostkeys    pinned keys, with dates           wire      SFTP version 3, requests in flight
upload      look, write aside, rename, look   failures  every refusal in words
connector   lines, threads, ``deliver``
"""

from connectors.sftp.connector import SftpConnector
from connectors.sftp.settings import SftpSettings

__all__ = ["SftpConnector", "SftpSettings"]
