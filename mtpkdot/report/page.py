"""Page of a report as blocks, written as one self-contained HTML file and as Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from mtpkdot.markdown import escaped, listing, table


@dataclass(frozen=True)
class Heading:
    """Heading of level 2 or 3, listed in the table of contents."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """Paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Table whose first row is the header. Columns of numbers are right-aligned."""

    rows: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True)
class Figure:
    """Figure: an `<svg>` element, its alternative text, and its caption."""

    svg: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Listing:
    """Text in full, folded by default."""

    title: str
    text: str


Block = Heading | Text | Table | Figure | Listing


@dataclass
class Page:
    """Report as a sequence of blocks.

    Attributes:
        title: heading of level 1.
        blocks: blocks in order.
    """

    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, str]:
        """SVG document of each figure, by its number and the first words of its caption."""
        found = [block for block in self.blocks if isinstance(block, Figure)]
        names = [re.sub(r"[^a-z0-9]+", "-", figure.caption[:40].lower()).strip("-") for figure in found]
        return {f"{n:02d}-{name}": f.svg for n, (name, f) in enumerate(zip(names, found, strict=True), start=1)}

    def html(self) -> str:
        """Return the report as one HTML file that loads nothing."""
        contents, body, used = [], [], 0
        for index, block in enumerate(self.blocks):
            if isinstance(block, Heading):
                anchor = f"s{index}"
                contents.append(f'<li class="l{block.level}"><a href="#{anchor}">{escape(block.text)}</a></li>')
                body.append(f'<h{block.level} id="{anchor}">{escape(block.text)}</h{block.level}>')
            elif isinstance(block, Figure):
                used += 1
                body.append(_figure(block, used))
            else:
                body.append(_block(block))
        toc = f'<nav aria-label="Contents"><ol>{"".join(contents)}</ol></nav>'
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{_CSS}</style>"
        )
        main = "\n".join([f"<h1>{escape(self.title)}</h1>", toc, *body])
        return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{main}\n</main></body></html>\n'

    def markdown(self) -> str:
        """Return the report as Markdown, with captions in place of figures."""
        parts, figures = [f"# {escaped(self.title)}"], 0
        for block in self.blocks:
            if isinstance(block, Heading):
                parts.append(f"{'#' * block.level} {escaped(block.text)}")
            elif isinstance(block, Text):
                parts.append(escaped(block.text))
            elif isinstance(block, Table):
                parts.append("\n".join([f"{escaped(block.caption)}\n", *table(block.rows)]))
            elif isinstance(block, Figure):
                figures += 1
                parts.append(f"Figure {figures} (in report.html): {escaped(block.caption)}")
            else:
                parts.append(f"{escaped(block.title)}\n\n{listing(block.text)}")
        return "\n\n".join(parts) + "\n"


def _block(block: Text | Table | Listing) -> str:
    if isinstance(block, Text):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Listing):
        return f"<details><summary>{escape(block.title)}</summary><pre>{escape(block.text)}</pre></details>"
    header, *rows = block.rows
    number = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    styles = [' class="n"' if is_number else "" for is_number in number]
    top = "".join(f'<th scope="col"{style}>{escape(cell)}</th>' for cell, style in zip(header, styles, strict=True))
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td{style}>{escape(cell)}</td>" for cell, style in zip(rest, styles[1:], strict=True))
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    caption = f"<caption>{escape(block.caption)}</caption>"
    # Wide tables scroll by themselves, also by keyboard.
    label = escape(block.caption, quote=True)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>{caption}'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _figure(figure: Figure, number: int) -> str:
    alt = escape(figure.alt, quote=True)
    drawn = figure.svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
    return f"<figure>{drawn}<figcaption>Figure {number}. {escape(figure.caption)}</figcaption></figure>"


def _is_number(cell: str) -> bool:
    return not cell or re.match(r"[+-]?\d[\d.,%]*(\s|$)", cell) is not None


_CSS = """
:root{color-scheme:light}
body{margin:0;background:#fff;color:#1a1a1a;font:16px/1.55 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.8rem;line-height:1.2;margin:0 0 1rem}
h2{font-size:1.35rem;margin:2.6rem 0 .6rem;padding-top:.6rem;border-top:2px solid #1a1a1a}
h3{font-size:1.08rem;margin:1.8rem 0 .4rem}
p{max-width:46rem;margin:.6rem 0;overflow-wrap:anywhere}
a{color:#00548a}
nav ol{list-style:none;padding:0;margin:0 0 1rem;columns:2;font-size:.92rem}
nav .l3{padding-left:1.2rem}
nav .l2{font-weight:600}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.84rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.4rem;color:#333}
th,td{padding:.28rem .7rem .28rem 0;text-align:left;vertical-align:top;white-space:nowrap}
thead th{border-bottom:1.5px solid #1a1a1a;white-space:normal;vertical-align:bottom}
tbody th{font-weight:600}
tbody tr+tr>*{border-top:1px solid #ddd}
.n{text-align:right}
figure{margin:1.4rem 0}
figure svg{max-width:100%;height:auto;display:block}
figcaption{max-width:46rem;font-size:.88rem;color:#333;margin-top:.4rem}
details{margin:.8rem 0}
summary{cursor:pointer}
pre{font-size:.78rem;overflow-x:auto;background:#f5f5f5;padding:.8rem}
@media print{body{font-size:10pt}main{max-width:none;padding:0}nav{columns:2}figure,tr{break-inside:avoid}
h2,h3{break-after:avoid}.wide{overflow:visible}table{font-size:7.5pt}th,td{white-space:normal}a{color:inherit}}
@media(max-width:40rem){nav ol{columns:1}}
"""
