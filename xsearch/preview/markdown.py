"""Markdown as plain text, for display. Excerpts have lost their line ends, and may start or end anywhere."""

from __future__ import annotations

import html
import re
from pathlib import PurePath

__all__ = ["is_markdown", "plain"]

SUFFIXES = {".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"}
TAGS = (
    "a|abbr|article|b|blockquote|br|button|caption|center|cite|code|col|dd|del|details|div|dl|dt|em|figcaption|"
    "figure|font|footer|h[1-6]|header|hr|i|iframe|img|input|ins|kbd|label|li|main|mark|nav|ol|p|picture|pre|q|"
    "s|samp|section|small|source|span|strong|sub|summary|sup|svg|table|tbody|td|tfoot|th|thead|tr|tt|u|ul|var|"
    "video"
)
_FENCE = re.compile(r"(?<!\S)(?:`{3,}|~{3,})(?!`)(\{[^}]*\}|[\w+#.-]*)(?:\s+\w+=\"[^\"]*\")*")
_HELD = re.compile(r"(?<!`)(`+)(?!`)\s?(.+?)\s?(?<!`)\1(?!`)|\\([!-/:-@\[-`{-~])", re.DOTALL)  # code, escapes
_ADDRESS = r"\((?:<[^<>]*>|(?:[^()\s]|\([^()]*\))*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
_MARKS = [
    (re.compile(pattern, re.DOTALL | re.MULTILINE), text)
    for pattern, text in [
        # front matter: keys are small, unlike the first word of a paragraph
        (r"\A(---|\+\+\+)\s+[a-z_][\w-]*\s*[:=].*?\s\1(?=\s|\Z)", ""),
        (r"<!--.*?(?:-->|\Z)", ""),
        (r"<img\s[^<>]*?\balt=\"([^\"]*)\"[^<>]*>", r"\1"),
        (rf"</?(?:{TAGS})(?:\s[^<>]*)?/?(?:>|\Z)", " "),
        (r"\A[^<>]*\"/?>", ""),  # the end of a tag
        (r"!\[\[[^\]]*\]\]", ""),
        (r"\[\[(?:[^\]|]*\|)?([^\]|]*)\]\]", r"\1"),
        (r"(?<!\S)\[[^\]^]+\]:\s+\S*[/.#]\S*(?:\s+\"[^\"]*\")?", ""),  # the address of a reference
        (r"\[\^[^\]\s]+\]:?", ""),
        (rf"!\[([^\[\]]*)\](?:{_ADDRESS}|\[[^\]]*\])", r"\1"),
        (rf"\[([^\[\]]*)\](?:{_ADDRESS}|\[[^\]]*\])", r"\1"),
        (r"!?\[([^\[\]]*)\]\([^()\s]*\Z", r"\1"),  # cut off
        (rf"\A([^\[\]]*)\]{_ADDRESS}", r"\1"),
        (r"<((?:https?://|mailto:)[^<>\s]*|[^<>\s@]+@[^<>\s]+)>", r"\1"),
        (r"(?<!\S)(?::{3,}|!{3}|\?{3})(?:\s*\{[^}]*\}|\s*(?:note|tip|info|warning|danger|example)\b)?", ""),
        (r"(?<!\S)\[!\w+\]", ""),
        (
            r"(?<!\S)\([\w-]+\)=(?!\S)|\{(?:[#.][^{}]*|[\w:+.-]+(?=\}\ue000))\}",
            "",
        ),  # labels, attributes, roles
        (r"(?<!\S)\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)+\|?(?!\S)", " | "),  # under the head of a table
        (r"(?<!\S)([-=*_])(?:\s?\1){2,}(?!\S)", ""),  # a rule
        (r"(?<!\S)#{1,6}\s+(?=\S)|(?<=\S)\s+#{2,6}(?!\S)", ""),
        (r"(?<!\S)[-*+]\s+\[ \](?!\S)", "☐"),
        (r"(?<!\S)[-*+]\s+\[[xX]\](?!\S)", "☑"),
        (r"^[-*+]\s+(?=\S)", ""),
        (r"(?<=\s)(?<!\d\s)[*•]\s+(?=\S)", "• "),
        (r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*]*?[^\s*])\1(?!\*)", r"\2"),
        (r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*]*?[^\s*])\1(?!\*)", r"\2"),  # within another
        (r"(?<![\w_])(_{1,3})(?=[^\s_])(.*?[^\s_])\1(?![\w_])", r"\2"),
        (r"(?<!\w)(~~|==)(?=\S)([^~=]*?\S)\1(?!\w)", r"\2"),
        (r"(?<!\S)\*\*(?=[\w\ue000])|(?<=[\w.,:;!?)\ue001])\*\*(?!\S)|`+", ""),  # whose partner is cut off
    ]
]


def is_markdown(path: str) -> bool:
    """Whether a path or URL has a Markdown suffix.

    >>> is_markdown("notes/TODO.MD")
    True
    """
    return PurePath(path.partition("?")[0]).suffix.lower() in SUFFIXES


def plain(text: str) -> str:
    """Return Markdown without its marks: headings, emphasis, links, fences, tables, front matter, HTML.

    Code and escaped characters are kept as they are; white space is collapsed.

    >>> plain("# Dogs **Good** [dogs](https://dogs.org) bark at `**kwargs`. | a | b | |---|---| | 1 | 2 |")
    'Dogs Good dogs bark at **kwargs. · a · b · 1 · 2'
    """
    held: list[str] = []

    def hold(content: str) -> str:
        held.append(content)
        return f"\ue000{len(held) - 1}\ue001"  # of the private use area

    pieces = _FENCE.split(re.sub("[\ue000\ue001]", "", text))  # content, info, content, ...
    contents, infos = pieces[::2], pieces[1::2]
    # A fence that names no language ends the code above it, unless it is one of a pair.
    inside = bool(contents[0].strip()) and not any(infos[:1]) and (len(infos) % 2 == 1 or any(infos[1::2]))
    outside = ""
    for content, info in zip(contents, ["", *infos], strict=True):
        is_code = inside and content.strip() and not info.startswith("{")  # or else a directive's text
        outside += f" {hold(content)} " if is_code else content
        inside = not inside
    outside = _HELD.sub(lambda match: hold(match[2] or match[3]), outside)
    for pattern, replacement in _MARKS:
        outside = pattern.sub(replacement, outside)
    if outside.lstrip().startswith(">"):
        outside = re.sub(r"(?<!\S)>+(?:\s+|$)", "", outside)
    if outside.count("|") > 3 or outside.lstrip().startswith("|"):
        outside = re.sub(r"(?:\s*(?<!\S)\|(?!\S))+\s*", " · ", outside).strip(" ·")
    outside = html.unescape(outside)
    shown = re.sub("\ue000(\\d+)\ue001", lambda match: held[int(match[1])], outside)
    return " ".join(shown.split()) or text
