"""Named places where a test may kill the process (``specs`` of reliability, crash-point table).

``DLX_FAILPOINT=name`` (or ``name:3`` for the third passage) makes the process send itself SIGKILL
when it gets there. Without the variable a passage costs one comparison.
"""

from __future__ import annotations

import os
import signal

_wanted, _, _count = os.environ.get("DLX_FAILPOINT", "").partition(":")
_left = int(_count or 1)

NAMES = (
    "claim.before_rename",
    "claim.renamed",
    "reject.why_written",
    "archive.before_rename",
    "archive.renamed",
    "register.before_commit",
    "register.after_commit",
    "finish.before_unlink",
    "delivery_claim.before_commit",
    "delivery_claim.after_commit",
    "intent.before_commit",
    "intent.after_commit",
    "folder.part_written",
    "folder.renamed",
    "sftp.part_written",
    "sftp.renamed",
    "smtp.body_written",
    "smtp.dot_written",
    "smtp.replied",
    "outcome.before_commit",
    "outcome.after_commit",
    "notice.sending",
)


def failpoint(name: str) -> None:
    """Die here, as a power cut would, when a test asked for this name. ``name`` is in NAMES."""
    global _left
    if name != _wanted:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
