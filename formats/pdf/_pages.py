"""Lines to pages: where a page may end, and what is repeated on top of the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from formats.pdf._model import Flowing, Line, Page


def paginated(
    lines: Iterable[Flowing], top: float, bottom: float, later_head: Callable[[], Sequence[Line]]
) -> list[Page]:
    """Place ``lines`` between ``top`` and ``bottom`` on as many pages as needed.

    Lines with ``keep`` stay with the next one, unless such a chain is higher than a page. Every
    page after the first begins with ``later_head()`` and the lines that go with its first line.
    """
    pages: list[Page] = [[]]
    y = top
    chain: list[Line] = []
    height = 0.0
    room = bottom - top
    above: Sequence[Line] = ()
    for line, running in lines:
        if not chain:
            if not line.keep and y + line.height <= bottom:  # by far the most frequent line
                pages[-1].append((y, line))
                y += line.height
                continue
            above = running
        chain.append(line)
        height += line.height
        if line.keep and height < room * 0.6:
            continue
        if y + height > bottom and pages[-1]:
            pages.append([])
            y = _placed(pages[-1], [*later_head(), *above], top)
        y = _placed(pages[-1], chain, y)
        chain, height = [], 0.0
    _placed(pages[-1], chain, y)  # nothing, unless the last line asked for a next one
    return pages


def _placed(page: Page, lines: Iterable[Line], y: float) -> float:
    for line in lines:
        page.append((y, line))
        y += line.height
    return y
