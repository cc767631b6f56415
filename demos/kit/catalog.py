"""What demos there are, and one of them loaded.

Listing reads files, never imports them, so that browsing needs no torch; a file that cannot be read or imported is
listed as broken with its error, never left out. A loaded demo knows the very source that it runs, and its digest; an
edited file is loaded anew, and whoever runs the old one keeps it.
"""

import ast
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
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
CONTRACT = ("TOPIC", "Params", "PRESETS", "LOOK_FOR", "Result", "run", "readings", "figure")


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
    return {path.stem: _entry(path) for path in _files(folder)}


def _files(folder: Path) -> list[Path]:
    # What begins with a dot is an editor's, such as the lock file .#flooding.py, a link to nowhere.
    return sorted(folder.glob("[!._]*.py"))


def _entry(path: Path) -> Entry:
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (SyntaxError, ValueError, OSError) as problem:
        error = f"{type(problem).__name__}: {problem}"
        return Entry(path.stem, path.stem.replace("_", " "), "", "", "", "", "live", {}, error)


@lru_cache(maxsize=512)
def _read(path: Path, modified: int) -> Entry:
    tree = ast.parse(path.read_bytes())
    title, summary, formula, about = _docstring(ast.get_docstring(tree) or "")
    defined = _definitions(tree)
    missing = [name for name in CONTRACT if name not in defined]
    if missing:
        raise ValueError(f"the module must define {', '.join(missing)}")
    topic = _written_out(defined["TOPIC"].value)
    streams = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(defined["run"]))
    pace: Literal["live", "training"] = "training" if streams else "live"
    return Entry(path.stem, title, summary, topic, formula, about, pace, _claims(defined))


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


def _definitions(tree: ast.Module) -> dict[str, Any]:
    """The statements that define the module's names, by name."""
    defined: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return defined


def _claims(defined: Mapping[str, Any]) -> dict[str, str]:
    claims = {}
    for name, node in defined.items():
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in CHECK_KINDS:
                says = [*call.args, *(given.value for given in call.keywords if given.arg == "says"), call]
                claims[name] = _written_out(says[0])
    return claims


def _written_out(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError(
        f"line {node.lineno}: instead of {ast.unparse(node)} write the text itself, for listing runs no code"
    )


@dataclass(frozen=True)
class Demo:
    """A demo loaded: what its page, the command line and the tests use; `source` is what `module` was made from."""

    entry: Entry
    module: ModuleType
    source: bytes

    @property
    def slug(self) -> str:
        return self.entry.slug

    @property
    def digest(self) -> str:
        """Of the source that runs and of the kit that it stands on: what its results may be cached by."""
        return _digest(self.source, *sorted(_KITS))

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
        source = self.source.decode()
        defined, lines = _definitions(ast.parse(source)), source.splitlines()
        return "\n".join(lines[defined["Result"].end_lineno : defined["run"].lineno - 1]).strip("\n") + "\n"


def load(slug: str, folder: Path = FOLDER) -> Demo:
    """One demo as its file is now; DemoError where there is none of that name or it cannot be imported."""
    entries = catalog(folder)
    if slug not in entries:
        raise DemoError(f"There is no demo {slug!r}. `kb demos` lists them.")
    if entries[slug].error:
        raise DemoError(f"demos/{slug}.py is broken: {entries[slug].error}")
    file = folder / f"{slug}.py"
    try:
        _KITS.add(_kit())
        source = file.read_bytes()
        return Demo(entries[slug], _module(file, source), source)
    except Exception as problem:  # any error of the demo's own code is the author's to read, with the file's name
        raise DemoError(f"demos/{slug}.py cannot be imported: {type(problem).__name__}: {problem}") from problem


@lru_cache(maxsize=512)
def _module(file: Path, source: bytes) -> ModuleType:
    # Python's own import would run what it had compiled or imported before, whatever the file says now.
    module = ModuleType(f"demos.{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look up there what an annotation in quotes names
    exec(compile(source, file, "exec"), vars(module))
    return module


def digests(folder: Path = FOLDER) -> dict[str, str]:
    """For every demo the digest of its source and of the kit, as they are on disk now."""
    kit, found = _kit(), {}
    for path in _files(folder):
        with suppress(OSError):
            found[path.stem] = _digest(path.read_bytes(), kit)
    return found


def _digest(source: bytes, *kits: bytes) -> str:
    return hashlib.sha256(b"".join([*kits, source])).hexdigest()[:16]


def _kit() -> bytes:
    sources = (path.read_bytes() for path in sorted((FOLDER / "kit").glob("[!.]*.py")))
    return hashlib.sha256(b"".join(sources)).digest()


# The kit as this process imported it; where it was edited before the last of its modules was imported, one of both.
_KITS = {_kit()}
