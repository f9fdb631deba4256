"""A report's sections as one page that needs nothing else (pictures inlined, no script), and as Markdown beside its pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from training.experiment.sections import Section

STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--line:#ccc;--dim:#555}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--paper:#161616;--line:#444;--dim:#aaa}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:76rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem}p{max-width:52rem}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--dim);font-weight:600}
img{display:block;max-width:100%;margin:1rem 0;background:#fff;padding:.5rem;box-sizing:border-box}
@media print{body{max-width:none;margin:0}h2{break-after:avoid}img,tr{break-inside:avoid}.scroll{overflow:visible}}
"""
"""Pictures keep white paper in the dark: their text is black."""


def write_html(title: str, sections: Sequence[Section]) -> str:
    body = "".join(f"<h2>{escape(one.title)}</h2>{_words(one.words)}{_picture(one)}{_table(one.table)}" for one in sections)
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n")


def write_markdown(title: str, sections: Sequence[Section]) -> str:
    """Pictures are looked for in `plots/`."""
    parts = [f"# {title}"]
    for one in sections:
        parts += [f"## {one.title}", one.words, f"![{one.title}](plots/{one.picture}.svg)" if one.picture else "", _pipes(one.table)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(words: str) -> str:
    return f"<p>{escape(words)}</p>" if words else ""


def _table(table: Sequence[Sequence[str]]) -> str:
    if not table:
        return ""
    head, *lines = table
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{"".join(f"<th>{escape(cell)}</th>" for cell in head)}</tr></thead><tbody>{cells}</tbody></table></div>'


def _picture(section: Section) -> str:
    if not section.svg:
        return ""
    # As an image, not inline: one picture's ids do not meet another's, and nothing in it can run.
    return f'<img alt="{escape(section.title)}" src="data:image/svg+xml;base64,{base64.b64encode(section.svg).decode()}">'


def _pipes(table: Sequence[Sequence[str]]) -> str:
    if not table:
        return ""
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])
