#!/usr/bin/env python3
"""Draw what conversions cost, as SVGs that are readable on light and on dark.

  plot.py RESULTS.json DIR    writes DIR/convert.svg, restructure-instructions.svg and restructure-memory.svg
"""
import collections
import json
import math
import os
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
    .single { color: #6e7781 }
    polyline { fill: none; stroke: currentColor; stroke-width: 2 }
    polyline.private, polyline.adjacent { stroke-dasharray: 6 4 }
    circle, text.two, text.one, text.single { fill: currentColor }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117 }
      text { fill: #e6edf3 }
      .grid { stroke: #30363d }
      .two { color: #f0883e }
      .one { color: #58a6ff }
      .single { color: #9198a1 }
    }
'''


# Curves are (class, legend, points); marks along the axis are values, and how to write one.
Chart = collections.namedtuple('Chart', 'name title note across up marks label curves')


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
    return f'{10 ** (exponent % 3)} {["", "k", "M", "G"][exponent // 3]}'.strip()


def text(x, y, anchor, what, more=''):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{what}</text>'


def grid(chart, x, y, exponents):
    middle = (TOP + BOTTOM) / 2
    for value in chart.marks:
        yield f'<path class="grid" d="M{x(value)} {TOP}V{BOTTOM}"/>'
        yield text(x(value), BOTTOM + 20, 'middle', chart.label(value))
    for exponent in exponents:
        yield f'<path class="grid" d="M{LEFT} {y(10 ** exponent)}H{RIGHT}"/>'
        yield text(LEFT - 8, y(10 ** exponent) + 4, 'end', count_label(exponent))
    yield text((LEFT + RIGHT) / 2, BOTTOM + 46, 'middle', chart.across)
    yield text(16, middle, 'middle', chart.up, f' transform="rotate(-90 16 {middle})"')


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


def draw(chart):
    costs = [cost for _, _, found in chart.curves for _, cost in found]
    places = [place for _, _, found in chart.curves for place, _ in found]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    x = Axis(min(places), max(places), LEFT + 20, RIGHT)
    y = Axis(10 ** low, 10 ** high, BOTTOM, TOP)

    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">')
    yield f'<title>{chart.title}</title>'
    yield f'<style>{STYLE}</style>'
    yield f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>'
    yield text(LEFT, 26, 'start', chart.title, ' class="title"')
    yield text(LEFT, 46, 'start', chart.note)
    yield from grid(chart, x, y, range(low, high + 1))
    for kind, _, found in chart.curves:
        yield from curve(x, y, kind, found)
    yield from legends([(y(found[-1][1]), kind, words) for kind, words, found in chart.curves])
    yield '</svg>'


def by_size(results, key, direction):
    """(bytes, instructions) by size; clearing a page counts 512."""
    found = []
    for row in results:
        match = NAME.match(row['name'])
        if match and match[4] == direction:
            found.append((int(match[2]) * BYTES[match[3]], row['words'][key]))
    return sorted(found)


def convert_chart(results):
    curves = [(kind, words, by_size(results, key, direction)) for kind, words, key, direction in SERIES]
    return Chart(
        name='convert',
        title='What it costs to convert a range of guest memory',
        note='pages of 4 KiB; sharing ends with a write of the host to each; clearing one counts 512',
        across='size of the range',
        up='instructions',
        # 2 MiB is measured, too; powers of four are enough to read.
        marks=[size for size, _ in curves[0][2] if size.bit_length() % 2],
        label=size_label,
        curves=curves)


# Pages that are shared, by what their sharing is called.
SCATTERED = {'share1': 1, 'share16': 16, 'scattered512': 512}
ADJACENT = {'share1': 1, 'adjacent512': 512}


def by_pages(rows, sharings, key, *counts, unit=1):
    return [(pages, unit * sum(rows[f'restructure.{name}.{count}'][key] for count in counts))
            for name, pages in sharings.items()]


def restructure_chart(curves, **kwargs):
    return Chart(across='pages of 4 KiB that are shared', marks=sorted(SCATTERED.values()), label=str,
                 curves=curves, **kwargs)


def instructions_chart(rows):
    single = rows['convert.4k.to_shared']['words']['peer']
    return restructure_chart(
        name='restructure-instructions',
        title='What it costs to share pages of a page of 1 GiB',
        note='two files have single pages from the start; theirs is with clearing, and a write of the host',
        up='instructions',
        curves=[
            ('two scattered', 'all of it split', by_pages(rows, SCATTERED, 'peer', 'instructions')),
            ('one scattered', 'ours, scattered', by_pages(rows, SCATTERED, 'ours', 'instructions')),
            ('one adjacent', 'ours, adjacent', by_pages(rows, ADJACENT, 'ours', 'instructions')),
            ('single scattered', 'two files', [(pages, pages * single) for pages in SCATTERED.values()]),
        ])


def memory_chart(rows):
    what = ('vmemmap_pages', 'slab_pages')
    return restructure_chart(
        name='restructure-memory',
        title='Memory lost by sharing pages of a page of 1 GiB',
        note='to struct pages, optimized before (HVO), and to nodes of the page cache',
        up='KiB',
        curves=[
            ('two scattered', 'all of it split', by_pages(rows, SCATTERED, 'peer', *what, unit=4)),
            ('one scattered', 'ours, scattered', by_pages(rows, SCATTERED, 'ours', *what, unit=4)),
            ('one adjacent', 'ours, adjacent', by_pages(rows, ADJACENT, 'ours', *what, unit=4)),
        ])


def write(results, directory):
    rows = {row['name']: row for row in results}
    for chart in (convert_chart(results), instructions_chart(rows), memory_chart(rows)):
        with open(os.path.join(directory, f'{chart.name}.svg'), 'w') as out:
            out.write('\n'.join(draw(chart)) + '\n')


if __name__ == '__main__':
    with open(sys.argv[1]) as source:
        write(json.load(source), sys.argv[2])
