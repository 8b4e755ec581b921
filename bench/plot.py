#!/usr/bin/env python3
"""Draw what a conversion costs by the size of its range, as an SVG that is readable on light and on dark.

  plot.py RESULTS.json OUT.svg
"""
import json
import math
import re
import sys

WIDTH, HEIGHT = 760, 470
LEFT, RIGHT, TOP, BOTTOM = 70, 590, 64, 410
BYTES = {'k': 1 << 10, 'm': 1 << 20}
NAME = re.compile(r'convert\.((\d+)([km]))\.(to_shared|to_private)$')
# Class, legend, key in a row, direction.
SERIES = (
    ('two shared', 'two files, to shared', 'peer', 'to_shared'),
    ('two private', 'two files, to private', 'peer', 'to_private'),
    ('one shared', 'in place, to shared', 'ours', 'to_shared'),
    ('one private', 'in place, to private', 'ours', 'to_private'),
)
STYLE = '''
    .paper { fill: #ffffff }
    text { font: 13px sans-serif; fill: #24292f }
    text.title { font-size: 15px; font-weight: bold }
    .grid { stroke: #d0d7de }
    .two { color: #bc4c00 }
    .one { color: #0969da }
    polyline { fill: none; stroke: currentColor; stroke-width: 2 }
    polyline.private { stroke-dasharray: 6 4 }
    circle, text.two, text.one { fill: currentColor }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117 }
      text { fill: #e6edf3 }
      .grid { stroke: #30363d }
      .two { color: #f0883e }
      .one { color: #58a6ff }
    }
'''


def points(results, key, direction):
    """(bytes, instructions) by size; clearing a page counts 512."""
    found = []
    for row in results:
        match = NAME.match(row['name'])
        if match and match[4] == direction:
            found.append((int(match[2]) * BYTES[match[3]], row['words'][key]))
    return sorted(found)


class Axis:
    """Logarithmic: a range of values onto a range of the picture."""

    def __init__(self, low, high, start, end):
        self.low, self.high = math.log(low), math.log(high)
        self.start, self.end = start, end

    def __call__(self, value):
        part = (math.log(value) - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)


def size_label(size):
    return f'{size >> 20} MiB' if size >= 1 << 20 else f'{size >> 10} KiB'


def count_label(exponent):
    return {3: '1 k', 4: '10 k', 5: '100 k', 6: '1 M', 7: '10 M', 8: '100 M', 9: '1 G'}[exponent]


def text(x, y, anchor, what, more=''):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{what}</text>'


def grid(x, y, sizes, exponents):
    middle = (TOP + BOTTOM) / 2
    for size in sizes:
        yield f'<path class="grid" d="M{x(size)} {TOP}V{BOTTOM}"/>'
        yield text(x(size), BOTTOM + 20, 'middle', size_label(size))
    for exponent in exponents:
        yield f'<path class="grid" d="M{LEFT} {y(10 ** exponent)}H{RIGHT}"/>'
        yield text(LEFT - 8, y(10 ** exponent) + 4, 'end', count_label(exponent))
    yield text((LEFT + RIGHT) / 2, BOTTOM + 46, 'middle', 'size of the range')
    yield text(16, middle, 'middle', 'instructions', f' transform="rotate(-90 16 {middle})"')


def curve(x, y, kind, found):
    places = [(x(size), y(cost)) for size, cost in found]
    yield f'<polyline class="{kind}" points="{" ".join(f"{a},{b}" for a, b in places)}"/>'
    for a, b in places:
        yield f'<circle class="{kind}" cx="{a}" cy="{b}" r="3"/>'


def legends(ends):
    """Beside the end of each curve, kept apart from the next."""
    lowest = 0
    for place, kind, words in sorted(ends):
        lowest = max(place + 4, lowest + 17)
        yield text(RIGHT + 12, lowest, 'start', words, f' class="{kind}"')


def draw(results):
    curves = [(kind, words, points(results, key, direction)) for kind, words, key, direction in SERIES]
    costs = [cost for _, _, found in curves for _, cost in found]
    sizes = [size for size, _ in curves[0][2]]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    x = Axis(sizes[0], sizes[-1], LEFT + 20, RIGHT)
    y = Axis(10 ** low, 10 ** high, BOTTOM, TOP)

    # 2 MiB is measured, too; powers of four are enough to read.
    marked = [size for size in sizes if size.bit_length() % 2]
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">')
    yield '<title>Instructions to convert a range of guest memory, by its size</title>'
    yield f'<style>{STYLE}</style>'
    yield f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>'
    yield text(LEFT, 26, 'start', 'What it costs to convert a range of guest memory', ' class="title"')
    yield text(LEFT, 46, 'start', 'pages of 4 KiB; sharing ends with a write of the host to each; '
               'clearing one counts 512')
    yield from grid(x, y, marked, range(low, high + 1))
    for kind, _, found in curves:
        yield from curve(x, y, kind, found)
    yield from legends([(y(found[-1][1]), kind, words) for kind, words, found in curves])
    yield '</svg>'


def write(results, path):
    with open(path, 'w') as out:
        out.write('\n'.join(draw(results)) + '\n')


if __name__ == '__main__':
    with open(sys.argv[1]) as source:
        write(json.load(source), sys.argv[2])
