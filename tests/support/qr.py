# SPDX-License-Identifier: Apache-2.0
"""Reads a QR code that was printed with half blocks (ISO/IEC 18004; level L, versions 1 to 10, bytes): what a camera would read. It was
not photographed, so nothing is corrected: a wrong module is a wrong text, or none."""

LIGHT = {"\u2588": (1, 1), "\u2580": (1, 0), "\u2584": (0, 1), " ": (0, 0)}     # upper, lower
BLOCKS = {1: [19], 2: [34], 3: [55], 4: [80], 5: [108], 6: [68, 68], 7: [78, 78], 8: [97, 97], 9: [116, 116], 10: [68, 68, 69, 69]}
ALIGNED = {1: [], 2: [6, 18], 3: [6, 22], 4: [6, 26], 5: [6, 30], 6: [6, 34], 7: [6, 22, 38], 8: [6, 24, 42], 9: [6, 26, 46],
           10: [6, 28, 50]}
MASKS = [lambda r, c: (r + c) % 2, lambda r, c: r % 2, lambda r, c: c % 3, lambda r, c: (r + c) % 3,
         lambda r, c: (r // 2 + c // 3) % 2, lambda r, c: (r * c) % 2 + (r * c) % 3, lambda r, c: ((r * c) % 2 + (r * c) % 3) % 2,
         lambda r, c: ((r + c) % 2 + (r * c) % 3) % 2]
FORMAT = [(8, c) for c in (0, 1, 2, 3, 4, 5, 7, 8)] + [(r, 8) for r in (7, 5, 4, 3, 2, 1, 0)]


def codes_in(text):
    """The texts of all codes that a program printed."""
    found, rows = [], []
    for line in text.split("\n") + [""]:
        if len(line) >= 25 and set(line) <= set(LIGHT):
            rows.append(line)
        elif rows:
            found.append(decode(matrix(rows)))
            rows = []
    return found


def matrix(lines):
    """Dark modules, without the light ones around."""
    m = []
    for line in lines:
        m.append([not LIGHT[ch][0] for ch in line])
        m.append([not LIGHT[ch][1] for ch in line])
    m = [row for row in m if any(row)]
    left = min(row.index(True) for row in m)
    return [row[left:left + len(m)] for row in m]


def is_fixed(n, version, r, c):
    """Part of a pattern, of the format, or of the version."""
    if r == 6 or c == 6 or (r < 9 and (c < 9 or c > n - 9)) or (r > n - 9 and c < 9):
        return True
    if version > 6 and ((r < 6 and c > n - 12) or (c < 6 and r > n - 12)):
        return True
    at = ALIGNED[version]
    last = at[-1] if at else 0
    return any(abs(r - y) < 3 and abs(c - x) < 3 for y in at for x in at if (y, x) not in ((6, 6), (6, last), (last, 6)))


def bits_of(m, version, mask):
    n = len(m)
    c, up = n - 1, True
    while c > 0:
        c -= c == 6
        for r in (range(n - 1, -1, -1) if up else range(n)):
            for x in (c, c - 1):
                if not is_fixed(n, version, r, x):
                    yield int(m[r][x]) ^ (MASKS[mask](r, x) == 0)
        c, up = c - 2, not up


def number(bits, n):
    return sum(next(bits) << (n - 1 - i) for i in range(n))


def decode(m):
    n = len(m)
    version = (n - 17) // 4
    if n != 17 + 4 * version or version not in BLOCKS or any(len(row) != n for row in m):
        raise ValueError("a square of %d" % n)
    form = number(iter([int(m[r][c]) for r, c in FORMAT]), 15) ^ 0x5412
    if form >> 13 != 1:
        raise ValueError("not of level L")
    bits, sizes = bits_of(m, version, form >> 10 & 7), BLOCKS[version]
    blocks = [[] for _ in sizes]
    for i in range(max(sizes)):
        for size, b in zip(sizes, blocks):
            if i < size:
                b.append(number(bits, 8))
    data = iter([byte >> s & 1 for b in blocks for byte in b for s in range(7, -1, -1)])
    if number(data, 4) != 4:
        raise ValueError("not bytes")
    return bytes(number(data, 8) for _ in range(number(data, 8 if version < 10 else 16))).decode()
