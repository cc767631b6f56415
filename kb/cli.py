"""`kb ...`: everything the app does, from the command line."""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from demos import kit
from demos.kit import export
from kb import verify as verifying
from kb.cache import cache_folder
from kb.card import Problem, nearest, schema
from kb.library import Library, LibraryError
from kb.query import parse
from kb.search import Hit
from kb.search import search as search_library

APP = Path(__file__).parent.parent / "app.py"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--notes",
    type=click.Path(path_type=Path),
    help="Folder of cards; several are separated as in PATH. Default: $KB_NOTES, else the cards that ship with kb.",
)
@click.pass_context
def main(ctx: click.Context, notes: Path | None) -> None:
    """Paper notes that run: cards, live demos, measured claims."""
    ctx.obj = notes


def _library(notes: Path | None = None) -> Library:
    chosen = notes or click.get_current_context().find_root().obj
    try:
        return Library.open(*(str(chosen).split(os.pathsep) if chosen else []))
    except LibraryError as problem:
        raise click.ClickException(str(problem)) from None


def _print_json(value: object) -> None:
    click.echo(export.json_text(value))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command()
@json_option
def check(as_json: bool) -> None:
    """Say everything that is wrong with the library's cards, and how to mend it; exit 1 if anything is."""
    library = _library()
    problems = [*library.problems, *verifying.problems(library)]
    if as_json:
        _print_json([problem.as_dict() for problem in problems])
    else:
        for problem in problems:
            click.echo(str(problem))
        click.echo(_summary(library, problems), err=bool(problems))
    sys.exit(1 if problems else 0)


def _summary(library: Library, problems: list[Problem]) -> str:
    cards = f"{len(library)} card" + ("s" if len(library) != 1 else "")
    return f"{cards}, no problems." if not problems else f"{cards}, {len(problems)} to mend."


@main.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of a card, for editors to complete and validate by."""
    _print_json(schema())


class _Search(click.Command):
    """Leaves what begins with a single dash to the query, where it excludes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Click takes no option from a word that begins with a space.
        return super().parse_args(ctx, [f" {arg}" if re.match("-[^-]", arg) and arg != "-h" else arg for arg in args])


@main.command(cls=_Search)
@click.argument("query", nargs=-1, required=True)
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many hits to print.")
@json_option
def search(query: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find cards, in English or Chinese, typos included.

    Of several arguments, one that holds spaces is a phrase: `kb search "straight through" -label`. A single one is the
    query as it is: `kb search '(mixup OR cutmix) "mixed labels"'`.
    """
    asked = parse(_typed(query))
    results = search_library(_library(), asked, limit=limit, verdicts=verifying.verdicts(asked))
    if as_json:
        _print_json([_hit(hit) for hit in results.hits])
        return
    for notice in results.notices:
        click.echo(notice, err=True)
    if results.suggestion:
        click.echo(f"No card has that as typed; these answer {results.suggestion!r}.", err=True)
    for hit in results.hits:
        click.echo(f"{click.style(hit.title, bold=True)}  {hit.slug}")
        for why in hit.why[:2]:
            snippet = "".join(click.style(text, underline=True) if marked else text for text, marked in why.snippet)
            click.echo(f"    {why.field}: {' '.join(snippet.split())}" + (f" ({why.via})" if why.via else ""))
    if not results.hits:
        click.echo("Nothing answers that.", err=True)


def _typed(words: tuple[str, ...]) -> str:
    """The query, with the quotes that the shell took from its phrases."""
    if len(words) == 1:
        return words[0]
    return " ".join(re.sub(r'^(-?(?:\w+:)?)([^"()]+\s[^"()]+)$', r'\1"\2"', word.strip()) for word in words)


def _hit(hit: Hit) -> dict[str, Any]:
    why = [
        {"field": why.field, "snippet": "".join(text for text, _ in why.snippet), "via": why.via,
         "marks": [text for text, marked in why.snippet if marked]}
        for why in hit.why
    ]  # fmt: skip
    return {"slug": hit.slug, "title": hit.title, "score": hit.score, "why": why}


@main.command()
@click.argument("slug")
@json_option
def show(slug: str, as_json: bool) -> None:
    """Print one card."""
    library = _library()
    if slug not in library:
        raise click.ClickException(f"There is no card {slug!r}." + _did_you_mean(slug, library))
    card = library[slug]
    if as_json:
        _print_json(card.model_dump(mode="json"))
        return
    click.secho(card.title, bold=True)
    for line in (card.title_zh, ", ".join(card.authors), card.venue or str(card.year or "")):
        if line:
            click.echo(line)
    for name, text in card.sections.items():
        click.secho(f"\n{name}", bold=True)
        click.echo(text.rstrip())
    for claim in card.claims:
        click.echo(f"\nClaim: {claim.says}" + (f"  [{claim.check}]" if claim.check else ""))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f" Did you mean {near}?" if near else ""


@main.command("demos")
@json_option
def list_demos(as_json: bool) -> None:
    """List the live demos."""
    entries = kit.catalog().values()
    if as_json:
        _print_json([asdict(entry) for entry in entries])
        return
    width = max((len(entry.slug) for entry in entries), default=0)
    for entry in entries:
        click.echo(f"{entry.slug:<{width}}  {_about(entry)}")


def _about(entry: kit.Entry) -> str:
    return f"broken: {entry.error}" if entry.error else entry.summary


class _DemoCommands(click.Group):
    """One subcommand a demo, its options made from the demo's knobs; listing them imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(kit.catalog())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = kit.catalog().get(cmd_name)
        return _demo_command(entry) if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Demos"):
            formatter.write_dl([(entry.slug, _about(entry)) for entry in kit.catalog().values()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        entries = [entry for entry in kit.catalog().values() if entry.slug.startswith(incomplete)]
        return [CompletionItem(entry.slug, help=_about(entry)) for entry in entries]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in kit.catalog():
            raise click.ClickException(f"There is no demo {args[0]!r}." + _did_you_mean(args[0], kit.catalog()))
        return super().resolve_command(ctx, args)


@main.group("run", cls=_DemoCommands)
def run() -> None:
    """Run a demo: `kb run DEMO --param value`; `kb run DEMO --help` lists its parameters."""


def _demo_command(entry: kit.Entry) -> click.Command:
    try:
        demo = kit.load(entry.slug)
    except kit.DemoError as problem:
        raise click.ClickException(str(problem)) from None
    defaults = demo.params()
    options: list[click.Parameter] = [
        click.Option(
            [f"--{name.replace('_', '-')}", name],
            type=_KnobType(name, knob),
            default=None,
            metavar="VALUE",
            help=f"{knob.doc or name}: {knob.takes()}. Default: {knob.write(getattr(defaults, name))}.",
        )
        for name, knob in kit.knobs(demo.params).items()
    ]
    options += [
        click.Option(
            ["--json", "json_file"], type=click.Path(), help="Write the figures' data as JSON ('-': standard output)."
        ),
        click.Option(
            ["--html", "html_file"],
            type=click.Path(dir_okay=False),
            help="Write the figures as a page that needs no network.",
        ),
    ]
    return click.Command(entry.slug, params=options, callback=_runs(demo), help=f"{entry.title}: {entry.summary}")


class _KnobType(click.ParamType[Any]):
    """Reads a knob's value, and says in the knob's own words what it takes."""

    def __init__(self, parameter: str, knob: kit.Knob) -> None:
        self.name, self.parameter, self.knob = "value", parameter, knob

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return kit.read_value(self.parameter, self.knob, str(value))
        except kit.BadValue as problem:
            self.fail(str(problem), param, ctx)


def _runs(demo: kit.Demo) -> Callable[..., None]:
    def callback(json_file: str | None, html_file: str | None, **given: Any) -> None:
        params = demo.params(**{name: value for name, value in given.items() if value is not None})
        shown = sys.stderr.isatty() and demo.entry.pace == "training"
        result = None
        for count, frame in enumerate(demo.frames(params), start=1):
            result = frame
            if shown:
                click.echo(f"\rframe {count} …", nl=False, err=True)
        if shown:
            click.echo("\r", nl=False, err=True)
        if json_file != "-":
            for name, reading in demo.readings(params, result).items():
                click.echo(f"{name}: {reading if isinstance(reading, str) else f'{reading:.6g}'}")
        if json_file:
            _write(json_file, export.as_json(demo, params, result))
        if html_file:
            _write(html_file, export.as_html(demo, params, result))

    return callback


def _write(file: str, text: str) -> None:
    if file == "-":
        click.echo(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise click.ClickException(f"{file} cannot be written: {problem.strerror}.") from None


@main.command()
@click.argument("names", nargs=-1, metavar="[CARD|DEMO|DEMO.CHECK]...")
@click.option("--unmeasured", is_flag=True, help="Only those that were not measured yet.")
@json_option
def verify(names: tuple[str, ...], unmeasured: bool, as_json: bool) -> None:
    """Run the checks that claims name (all by default); exit 1 if a law or a finding fails."""
    records, library = [], _library()
    try:
        chosen = verifying.select(library, names)
        if unmeasured:
            known = verifying.recorded()
            chosen = [name for name in chosen if name not in known]
        for record in verifying.verify(chosen):
            records.append(record)
            if not as_json:
                click.echo(_verdict(record))
    except verifying.VerifyError as problem:
        raise click.ClickException(str(problem)) from None
    failed = [record for record in records if record.failed]
    if as_json:
        _print_json([asdict(record) for record in records])
    else:
        reports = [record for record in records if record.kind == "report"]
        held = sum(record.holds for record in records if record.kind != "report")
        click.echo(f"{held} hold, {len(failed)} fail, {len(reports)} reports (shown, not enforced).")
    sys.exit(1 if failed else 0)


def _verdict(record: verifying.Record) -> str:
    sign = "✓" if record.holds else ("✗" if record.failed else "•")
    color = "green" if record.holds else ("red" if record.failed else "yellow")
    head = f"{click.style(sign, fg=color)} {record.name}: {record.claim}"
    if record.error or record.measured is None:
        return f"{head}\n    could not be measured: {record.error}"
    margin = "margin" if record.relation in ("more than", "less than") else "tolerance"
    allowed = f", {margin} {record.tolerance:.3g}" if record.tolerance else ""
    return (
        f"{head}\n    measured {record.measured:.6g}, {record.relation} {record.reference:.6g}{allowed} "
        f"({record.why}) [{record.kind}, {record.seconds:.1f} s]"
    )


@main.command()
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option(
    "--address", default="localhost", show_default=True, help="Address to listen on; 0.0.0.0 opens it to the network."
)
@click.option("--notes", type=click.Path(path_type=Path), help="Folder of cards, as for `kb --notes`.")
@click.option(
    "--measure/--no-measure",
    default=True,
    envvar="KB_MEASURE",
    help="Whether to measure, in the background, the claims that were not measured yet.",
)
def serve(port: int, address: str, notes: Path | None, measure: bool) -> None:
    """Run the web app."""
    library = _library(notes)
    host = socket.gethostname() if address == "0.0.0.0" else address
    click.echo(f"{len(library)} cards. Open http://{host}:{port} (stop with Ctrl+C).")
    settings = [f"--server.port={port}", f"--server.address={address}", "--server.headless=true"]
    # The app's paths and .streamlit/config.toml are found from its own folder, so no other path may be relative.
    os.environ["KB_MEASURE"] = str(int(measure))
    os.environ["KB_CACHE"] = str(cache_folder().absolute())
    os.environ["KB_NOTES"] = os.pathsep.join(str(folder.resolve()) for folder in library.folders)
    os.chdir(APP.parent)
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(APP), *settings])


if __name__ == "__main__":
    main()
