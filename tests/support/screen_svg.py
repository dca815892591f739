# SPDX-License-Identifier: Apache-2.0
"""A picture of a terminal's screen (pyte) as SVG, for the documentation."""
from xml.sax.saxutils import escape

NAMED = {"default": None, "black": "#1c1c1c", "red": "#d75f5f", "green": "#87af5f", "brown": "#d7af5f", "blue": "#6f9fd8", "magenta": "#b787d7",
         "cyan": "#5fafaf", "white": "#d0d0d0"}
FG, BG, W, H = "#d0d0d0", "#12161c", 8.4, 18


def colour(name, default):
    return NAMED.get(name, "#" + name if len(name) == 6 else default) or default


def svg(screen, title):
    cols, rows = screen.columns, screen.lines
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">'
           % (cols * W + 24, rows * H + 24), "<title>%s</title>" % escape(title),
           '<rect width="100%%" height="100%%" rx="6" fill="%s"/>' % BG]
    for y in range(rows):
        x = 0
        while x < cols:
            c, n = screen.buffer[y][x], 1
            while x + n < cols and screen.buffer[y][x + n]._replace(data="") == c._replace(data=""):
                n += 1
            text = "".join(screen.buffer[y][i].data for i in range(x, x + n))
            fg, bg = colour(c.fg, FG), colour(c.bg, BG)
            if c.reverse:
                fg, bg = bg, fg
            if bg != BG:
                out.append('<rect x="%g" y="%g" width="%g" height="%g" fill="%s"/>' % (12 + x * W, 12 + y * H, n * W, H, bg))
            if text.strip():
                out.append('<text x="%g" y="%g" fill="%s"%s xml:space="preserve" textLength="%g">%s</text>'
                           % (12 + x * W, 12 + y * H + 13.5, fg, ' font-weight="bold"' if c.bold else "", n * W, escape(text)))
            x += n
    return "\n".join(out + ["</svg>"]) + "\n"
