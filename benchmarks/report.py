# SPDX-License-Identifier: MIT
"""What the benchmark scripts share: results in files, tables in Markdown, bars in SVG. Only Python's own library."""

import datetime
import json
import os
import pathlib
import platform
import re
import statistics
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks" / "README.md"
COLOURS = ("#4477aa", "#cc5533", "#999999", "#ddaa33", "#559955", "#aa4477")


def machine():
    """Processor, cores and memory, as a result keeps them."""
    processor, memory = platform.machine(), None
    try:
        found = re.search(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
        processor = found.group(1) if found else processor
        found = re.search(r"^MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
        memory = round(int(found.group(1)) / 2**20, 1)
    except (OSError, AttributeError):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": processor, "cores": cores, "memory_gib": memory, "system": platform.system()}


def default_path(kind):
    """docs/benchmarks/<kind>-<processor>-<date>.json."""
    name = re.sub(r"[^a-z0-9]+", "-", machine()["processor"].lower()).strip("-")
    return PAGE.parent / f"{kind}-{name}-{datetime.date.today().isoformat()}.json"


def load(path):
    """What a result file has; nothing where there is none yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path, text):
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def save(path, results):
    write(path, json.dumps(results, indent=1) + "\n")


def median(values):
    return statistics.median(values)


def digits(value):
    """A number for a table: three digits that count, thousands apart; a whole number whole."""
    if value is None:
        return ""
    if abs(value) >= 100 or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def table(head, rows):
    """A table in Markdown; numbers are written by digits(), True and False as yes and no."""

    def cell(value):
        if isinstance(value, bool):
            return "yes" if value else "no"
        return digits(value) if isinstance(value, (int, float)) else str(value if value is not None else "")

    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("--:" if right else "---" for right in numeric) + "|"]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def update_page(section, text, page=PAGE):
    """Puts text between `<!-- section: begin -->` and `<!-- section: end -->`; ValueError where they are not."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    whole = page.read_text(encoding="utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(begin) > whole.index(end):
        raise ValueError(f"{page}: has not one {begin} with one {end} behind it")
    before, rest = whole.split(begin)
    write(page, before + begin + "\n\n" + text.strip() + "\n\n" + end + rest.split(end)[1])


def bars(title, unit, groups):
    """Horizontal bars as the text of an SVG file. groups: [(name, [(label, value), ...]), ...]; a label has one colour
    throughout."""
    width, left, right, height, gap = 800, 250, 90, 18, 14
    labels = list(dict.fromkeys(label for _, bars_ in groups for label, _ in bars_))
    largest = max((value for _, bars_ in groups for _, value in bars_), default=1) or 1
    parts, y = [], 40
    for name, bars_ in groups:
        middle = y + height * len(bars_) / 2 + 4
        parts.append(f"<text x='{left - 10}' y='{middle:.1f}' text-anchor='end'>{escape(name)}</text>")
        for label, value in bars_:
            length = value / largest * (width - left - right)
            colour = COLOURS[labels.index(label) % len(COLOURS)]
            box = f"x='{left}' y='{y}' width='{length:.1f}' height='{height - 3}' fill='{colour}'"
            parts.append(f"<rect {box}><title>{escape(label)}</title></rect>")
            parts.append(f"<text x='{left + length + 6:.1f}' y='{y + 12}'>{digits(value)}</text>")
            y += height
        y += gap
    for label in labels:
        colour = COLOURS[labels.index(label) % len(COLOURS)]
        parts.append(f"<rect x='{left}' y='{y}' width='12' height='12' fill='{colour}'/>")
        parts.append(f"<text x='{left + 18}' y='{y + 11}'>{escape(label)}</text>")
        y += height
    size = f"viewBox='0 0 {width} {y + 10}' width='{width}' height='{y + 10}'"
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size}>",
        "<style>text{font:12px sans-serif;fill:#333}</style>",
        f"<rect width='{width}' height='{y + 10}' fill='white'/>",
        f"<text x='16' y='22'>{escape(title)} ({escape(unit)})</text>",
    ]
    return "\n".join([*head, *parts, "</svg>", ""])
