"""What demos there are, and one of them loaded.

Listing reads files, never imports them, so that browsing needs no torch; a file that cannot be read or imported is
listed as broken with its error, never left out.
"""

import ast
import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from demos.kit.checks import Check
from demos.kit.knobs import Knobs

if TYPE_CHECKING:
    import plotly.graph_objects as go

FOLDER = Path(__file__).parent.parent
CHECK_KINDS = ("law", "finding", "report")


class DemoError(Exception):
    """A demo that is not there, or that cannot be loaded."""


@dataclass(frozen=True)
class Entry:
    """A demo as listed: all that its file says without being run.

    Attributes:
        slug: the file's stem.
        title, summary: the two halves of the docstring's first line, `Title: summary.`
        topic: the module's TOPIC.
        formula: the docstring's indented block, LaTeX.
        about: the rest of the docstring, provenance and symbols, Markdown.
        pace: "live" answers at once, "training" yields frames as it trains.
        checks: name of each check -> the claim in words.
        error: why it is broken; empty when it is not.
    """

    slug: str
    title: str
    summary: str
    topic: str
    formula: str
    about: str
    pace: Literal["live", "training"]
    checks: Mapping[str, str]
    error: str = ""


def catalog(folder: Path = FOLDER) -> dict[str, Entry]:
    """Every demo by slug, sorted; imports none of them."""
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    return {path.stem: _entry(path, path.stat().st_mtime_ns) for path in files}


@lru_cache(maxsize=512)
def _entry(path: Path, modified: int) -> Entry:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        title, summary, formula, about = _docstring(ast.get_docstring(tree) or "")
        topic = _constant(tree, "TOPIC")
    except (SyntaxError, ValueError, OSError) as problem:
        return Entry(
            path.stem,
            path.stem.replace("_", " "),
            "",
            "",
            "",
            "",
            "live",
            {},
            f"{type(problem).__name__}: {problem}",
        )
    run = _function(tree, "run")
    streams = run is not None and any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(run))
    return Entry(path.stem, title, summary, topic, formula, about, "training" if streams else "live", _claims(tree))


def _docstring(text: str) -> tuple[str, str, str, str]:
    first, _, rest = text.strip().partition("\n")
    title, colon, summary = first.partition(": ")
    if not colon:
        raise ValueError('the docstring must begin with "Title: summary."')
    blocks = re.split(r"\n\s*\n", rest.strip("\n"))
    formulas = [block for block in blocks if block.startswith("    ")]
    prose = [block for block in blocks if block and not block.startswith("    ")]
    return title, summary[:1].upper() + summary[1:], _rows(formulas), "\n\n".join(prose)


def _rows(formulas: list[str]) -> str:
    """Formulas below each other, each block of the docstring on a row of its own."""
    rows = ["\n".join(line.strip() for line in block.splitlines()) for block in formulas]
    return "\\begin{gathered}\n" + " \\\\[.5em]\n".join(rows) + "\n\\end{gathered}" if len(rows) > 1 else "".join(rows)


def _constant(tree: ast.Module, name: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return str(ast.literal_eval(node.value))
    raise ValueError(f"the module must set {name}")


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _claims(tree: ast.Module) -> dict[str, str]:
    claims = {}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id in CHECK_KINDS
                and call.args
            ):
                claims[node.name] = str(ast.literal_eval(call.args[0]))
    return claims


@dataclass(frozen=True)
class Demo:
    """A demo loaded: what its page, the command line and the tests use."""

    entry: Entry
    module: ModuleType

    @property
    def slug(self) -> str:
        return self.entry.slug

    @property
    def params(self) -> type[Knobs]:
        return self.module.Params  # type: ignore[no-any-return]

    @property
    def presets(self) -> Mapping[str, Knobs]:
        return self.module.PRESETS  # type: ignore[no-any-return]

    @property
    def look_for(self) -> tuple[str, ...]:
        """What to look for: three short lines."""
        return tuple(self.module.LOOK_FOR)

    @property
    def checks(self) -> dict[str, Check]:
        return {check.name: check for check in vars(self.module).values() if isinstance(check, Check)}

    def frames(self, params: Knobs) -> Iterator[Any]:
        """The results in order: one of a live demo, growing ones of a training demo."""
        results = self.module.run(params)
        yield from results if inspect.isgenerator(results) else iter((results,))

    def result(self, params: Knobs) -> Any:
        """The last result."""
        for last in self.frames(params):
            result = last
        return result

    def figures(self, params: Knobs, result: Any) -> dict[str, "go.Figure"]:
        """The pictures, each under the caption that says what to see."""
        pictures = self.module.figure(params, self.examined(params, result))
        return dict(pictures) if isinstance(pictures, Mapping) else {"": pictures}

    def readings(self, params: Knobs, result: Any) -> dict[str, str | float]:
        """The few numbers that matter, by name."""
        return dict(self.module.readings(params, self.examined(params, result)))

    def examined(self, params: Knobs, result: Any) -> Any:
        """The result as the view knobs ask for it: the module's `examine`, where it has one."""
        examine: Callable[[Knobs, Any], Any] | None = getattr(self.module, "examine", None)
        return result if examine is None else examine(params, result)

    def method(self) -> str:
        """The source of the method itself: what stands between `Result` and `run`."""
        source = inspect.getsource(self.module)
        tree, lines = ast.parse(source), source.splitlines()
        result = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Result")
        run = _function(tree, "run")
        assert run is not None and result.end_lineno is not None
        return "\n".join(lines[result.end_lineno : run.lineno - 1]).strip("\n") + "\n"


def load(slug: str) -> Demo:
    """One demo, imported; DemoError where there is none of that name or its import fails."""
    entries = catalog()
    if slug not in entries:
        raise DemoError(f"There is no demo {slug!r}. `kb demos` lists them.")
    if entries[slug].error:
        raise DemoError(f"demos/{slug}.py is broken: {entries[slug].error}")
    try:
        return Demo(entries[slug], importlib.import_module(f"demos.{slug}"))
    except Exception as problem:  # any error of the demo's own code is the author's to read, with the file's name
        raise DemoError(f"demos/{slug}.py cannot be imported: {type(problem).__name__}: {problem}") from problem


def digest(slug: str) -> str:
    """A digest of the demo's source and of the kit it stands on: what its results may be cached by."""
    sha = hashlib.sha256()
    for path in [FOLDER / f"{slug}.py", *sorted((FOLDER / "kit").glob("*.py"))]:
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]
