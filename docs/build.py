"""Writes the pages of docs/ and the cards' schema from the code: `make docs`; a test says when they are out of date."""

import json
from collections.abc import Iterator
from pathlib import Path

import click

from demos import kit
from kb.card import schema
from kb.cli import main

DOCS = Path(__file__).parent
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


def cli_page() -> str:
    """docs/cli.md: the help of every command."""
    return "\n".join([NOTE, "# The command line\n", *_helps(main, "kb")])


def _helps(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
    yield f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group) and name == "kb":
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            if subcommand is not None:
                yield from _helps(subcommand, f"{name} {child}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {"demos.md": demos_page, "cli.md": cli_page}
SCHEMA = DOCS.parent / "notes" / "card.schema.json"

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")
    SCHEMA.write_text(json.dumps(schema(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print("wrote notes/card.schema.json")
