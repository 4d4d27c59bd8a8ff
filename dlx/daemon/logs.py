"""Log lines: ``key=value``, journald priority in front, never a patient.

An exception is logged by its type and the place where it was raised; its text could quote a report.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType

from dlx.errors import ConfigError, StoreError

PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_OURS = (StoreError, ConfigError)  # their texts are written by us and hold no medical data


class LineFormatter(logging.Formatter):
    """One line per event; ``journald`` puts ``<4>`` in front (sd-daemon(3))."""

    def __init__(self, *, journald: bool) -> None:
        super().__init__("%(message)s" if journald else "%(asctime)s %(levelname)s %(message)s")
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the place of the exception if there is one."""
        text = record.getMessage().replace("\n", "\\n")
        if record.exc_info and record.exc_info[1] is not None:
            text += f" exception={described(record.exc_info[1])}"
        if self._journald:
            return f"<{PRIORITIES.get(record.levelno, 6)}>{text}"
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return f"{stamp} {record.levelname.lower()} {text}"


def described(error: BaseException) -> str:
    """``OperationalError@writer.py:120``; the text only where it is ours."""
    name, line = "?", 0
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
        line, trace = trace.tb_lineno, trace.tb_next
    own = f" « {error} »" if isinstance(error, _OURS) else ""
    return f"{type(error).__name__}@{name}:{line}{own}"


def set_up(*, verbose: bool, journald: bool) -> None:
    """Send every log line of the process to stderr, in our form; libraries only from WARNING on."""
    # what our lines do not say need not be found out for each of them (logging HOWTO, optimization)
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(journald=journald))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("dlx").setLevel(logging.DEBUG if verbose else logging.INFO)
    # paramiko writes host names and key types at INFO, whole exchanges at DEBUG
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
