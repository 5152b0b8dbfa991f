"""The two patterns of `patterns`, compiled: where the next piece of a text of bytes ends.

Characters have one of eight classes. What a regular expression finds by going back is found here
by what it can be: the alternatives are tried in their order, each with its longest match.
"""

from __future__ import annotations

from lengthwise.tokenization.compiled import jit

SYMBOL, CAPITAL, SMALL, LETTER, MARK, NUMBER, SPACE, LINE = range(8)
WORDS, SUPERWORDS = range(2)
_SLASH = 47
_BLANK = 32


@jit
def _read(data, at, classes):
    """The class of the character at `at`, and its length in bytes, times eight."""
    first = data[at]
    if first < 0x80:
        return classes[first] + 8
    if first < 0xE0:
        code = ((first & 0x1F) << 6) | (data[at + 1] & 0x3F)
        return classes[code] + 16
    if first < 0xF0:
        code = ((first & 0xF) << 12) | ((data[at + 1] & 0x3F) << 6) | (data[at + 2] & 0x3F)
        return classes[code] + 24
    code = ((first & 7) << 18) | ((data[at + 1] & 0x3F) << 12)
    code |= ((data[at + 2] & 0x3F) << 6) | (data[at + 3] & 0x3F)
    return classes[code] + 32


@jit
def _letters(data, at, end, classes):
    """The end of capitals and then small letters, at least one of these; and of the capitals."""
    backed = -1
    while at < end:
        found = _read(data, at, classes)
        kind = found & 7
        if kind != CAPITAL and kind != LETTER and kind != MARK:
            break
        at += found >> 3
        if kind != CAPITAL:
            backed = at
    capitals = at
    if at < end and _read(data, at, classes) & 7 == SMALL:
        while at < end:
            found = _read(data, at, classes)
            kind = found & 7
            if kind != SMALL and kind != LETTER and kind != MARK:
                break
            at += found >> 3
        return at, capitals
    return backed, capitals


@jit
def _digits(data, at, end, classes):
    for _ in range(3):
        if at < end:
            found = _read(data, at, classes)
            if found & 7 != NUMBER:
                break
            at += found >> 3
    return at


@jit
def _symbols(data, at, end, classes, least):
    """The end of symbols, a blank before and lines or slashes behind; -1 for fewer than `least`."""
    if data[at] == _BLANK:
        at += 1
    number = 0
    while at < end:
        found = _read(data, at, classes)
        if found & 7 != SYMBOL and found & 7 != MARK:
            break
        at += found >> 3
        number += 1
    if number < least:
        return -1
    while at < end and (data[at] == _SLASH or classes[data[at]] == LINE and data[at] < 0x80):
        at += 1
    return at


@jit
def _spaces(data, at, end, classes):
    """Spaces to their last line; or else all of them, but the last one before what is none."""
    last = at
    line = -1
    number = 0
    while at < end:
        found = _read(data, at, classes)
        if found & 7 != SPACE and found & 7 != LINE:
            break
        last = at
        at += found >> 3
        number += 1
        if found & 7 == LINE:
            line = at
    if line >= 0:
        return line
    return at if at == end or number == 1 else last


@jit
def _word(data, at, end, classes):
    found = _read(data, at, classes)
    kind = found & 7
    if kind == NUMBER:
        return _digits(data, at, end, classes)
    before = at
    if kind in (SYMBOL, MARK, SPACE):
        before = at + (found >> 3)
    small, capitals = _letters(data, before, end, classes)
    if small >= 0:
        return small
    if kind == MARK:
        return _letters(data, at, end, classes)[0]
    if capitals > before:
        return capitals
    symbols = _symbols(data, at, end, classes, 1)
    return symbols if symbols >= 0 else _spaces(data, at, end, classes)


@jit
def _alone(data, at, end, classes):
    """The end of what stands alone among superwords; -1 where nothing does."""
    kind = _read(data, at, classes) & 7
    if kind == NUMBER:
        return _digits(data, at, end, classes)
    if kind != SYMBOL and kind != MARK and data[at] != _BLANK:
        return -1
    symbols = _symbols(data, at, end, classes, 2)
    if symbols >= 0 or data[at] != _BLANK:
        return symbols
    last = at
    while last < end and data[last] == _BLANK:
        last += 1
    if last < end:
        kind = _read(data, last, classes) & 7
        if kind != SPACE and kind != LINE:
            last -= 1
    return last if last > at else -1


@jit
def _superword(data, at, end, classes):
    found = _alone(data, at, end, classes)
    start = at
    while found < 0:
        at += _read(data, at, classes) >> 3
        if at >= end:
            return end
        found = _alone(data, at, end, classes)
    return at if at > start else found


@jit
def cut(data, bounds, classes, pattern, ends):
    """Cuts texts. Returns for each how many pieces there are up to its end, int64 `[texts]`.

    Args:
        data: texts in UTF-8, uint8 `[bytes]`.
        bounds: where each begins and the last one ends, int64 `[texts + 1]`.
        classes: of every code point, uint8.
        pattern: `WORDS` or `SUPERWORDS`.
        ends: of the pieces, int32 `[bytes]`, written.
    """
    number = 0
    counts = bounds[1:].copy()
    for text in range(len(bounds) - 1):
        at, end = bounds[text], bounds[text + 1]
        while at < end:
            if pattern == WORDS:
                at = _word(data, at, end, classes)
            else:
                at = _superword(data, at, end, classes)
            ends[number] = at
            number += 1
        counts[text] = number
    return counts
