"""Writes the pages of docs/ and the cards' schema from the code: `make docs`; a test says when they are out of date."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from demos import kit
from kb import query
from kb.card import schema
from kb.cli import main

DOCS = Path(__file__).parent
READING = """\
Nothing that is typed is an error: what is not understood is searched as words, and the answer says so. The last word
may be unfinished, so it is also read as the beginning of one, unless it stands in quotes.

Chinese words are found inside running text, in simplified and traditional characters alike. Case, accents and
full-width forms do not matter; `lambda`, `λ` and `\\lambda` are one word. A typo is corrected, and said; a name may be
typed as one word or two (`drop out`, `nasfpn`, `efficent net`). A question need not find its small words: `how does
mixup work`, `知识的蒸馏`. A paper is found by its number or address: `1611.01144`, `https://arxiv.org/abs/1611.01144`.
"""
NOTE = "<!-- Made by docs/build.py (make docs); edit the code, not this file. -->\n"


def demos_page() -> str:
    """docs/demos.md: what each demo lets a reader turn, and what it measures."""
    lines = [NOTE, "# The demos\n"]
    for entry in kit.catalog().values():
        demo = kit.load(entry.slug)
        pace = "answers at once" if entry.pace == "live" else "trains as you watch"
        lines += [f"## {entry.title}\n", f"{entry.summary} `{entry.slug}`, {entry.topic.replace('_', ' ')}, {pace}.\n"]
        lines += ["| Parameter | What it is | Takes | Default |", "|---|---|---|---|"]
        defaults = demo.params()
        for name, knob in kit.knobs(demo.params).items():
            default = knob.write(getattr(defaults, name))
            lines.append(f"| `{name}` | {_cell(knob.doc)} | {_cell(knob.takes())} | `{_cell(default)}` |")
        lines += ["", "| Check | Kind | Claim | Source |", "|---|---|---|---|"]
        for check in demo.checks.values():
            lines.append(f"| `{check.name}` | {check.kind} | {_cell(check.says)} | {_cell(check.source)} |")
        lines.append("")
    return "\n".join(lines)


def search_page() -> str:
    """docs/search.md: what can be typed into the search box, from the search language itself."""
    lines = [NOTE, "# What can be typed into the search box\n", "| Typed | Meaning |", "|---|---|"]
    lines += [f"| `{typed}` | {meaning} |" for typed, meaning in query.EXAMPLES.items()]
    lines += ["", READING]
    lines += ["## Fields\n", f"In the text of: {_code(query.TEXT_FIELDS)}. By value: `topic`, `demo`, `links-to`.\n"]
    lines += [f"- `{name}:` {_code(values)}" for name, values in query.CHOICES.items()]
    lines += [f"- `{name}:` a value, `2019..2021`, `>2018`, `<=2020`" for name in query.RANGE_FIELDS]
    lines += [f"- `sort:` {_code(query.SORTS)}", "", "Also understood:\n"]
    lines += [f"- `{other}:` for `{name}:`" for other, name in query.SYNONYMS.items()]
    return "\n".join([*lines, ""])


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def cli_page() -> str:
    """docs/cli.md: the help of every command."""
    return "\n".join([NOTE, "# The command line\n", *_helps(main, "kb")])


def _helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    context = click.Context(command, parent, info_name=name, terminal_width=100, **command.context_settings)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group) and parent is None:
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            if subcommand is not None:
                yield from _helps(subcommand, child, context)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {"demos.md": demos_page, "search.md": search_page, "cli.md": cli_page}
SCHEMA = DOCS.parent / "notes" / "card.schema.json"

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")
    SCHEMA.write_text(json.dumps(schema(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print("wrote notes/card.schema.json")
