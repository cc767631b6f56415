"""A card's Markdown and LaTeX in plain characters, for where nothing is typeset: snippets, previews, the terminal.

`**Fair.** As $\\tau\\to0$ ([paper](https://...)), $\\frac{q_i}{T^2}$` becomes `Fair. As τ → 0 (paper), qᵢ/T²`.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

DEEPEST: Final = 50  # braces within braces


def _table(pairs: str) -> dict[str, str]:
    words = pairs.split()
    return dict(zip(words[::2], words[1::2], strict=True))


# LaTeX commands that stand for a character: with no room around it, and with some.
_TIGHT: Final = _table("""
    alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ vartheta θ iota ι kappa κ lambda λ mu μ
    nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ
    Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ Omega Ω ell ℓ infty ∞ partial ∂ nabla ∇ sum ∑ prod ∏ int ∫ dots … ldots … cdots …
    lVert ‖ rVert ‖ Vert ‖ lvert | rvert | vert | lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ langle ⟨ rangle ⟩ top ⊤ prime ′
    circ ∘ dagger † forall ∀ exists ∃ emptyset ∅
""")
_SPACED: Final = _table("""
    times × cdot · div ÷ pm ± mp ∓ odot ⊙ oplus ⊕ otimes ⊗ in ∈ notin ∉ ni ∋ subset ⊂ subseteq ⊆ cup ∪ cap ∩ le ≤
    leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ ll ≪ gg ≫ approx ≈ sim ∼ simeq ≃ equiv ≡ propto ∝ to → rightarrow → longrightarrow →
    leftarrow ← gets ← leftrightarrow ↔ Rightarrow ⇒ Leftarrow ⇐ Leftrightarrow ⇔ Longleftrightarrow ⇔ implies ⇒ iff ⇔
    mapsto ↦ mid | setminus ∖ wedge ∧ vee ∨ bmod mod log log ln ln exp exp sin sin cos cos tan tan tanh tanh max max
    min min arg arg argmax argmax argmin argmin sup sup inf inf lim lim det det Pr Pr
""")
_ACCENTS: Final = {
    "hat": "\u0302",
    "widehat": "\u0302",
    "tilde": "\u0303",
    "bar": "\u0304",
    "overline": "\u0304",
    "dot": "\u0307",
    "vec": "\u20d7",
}
_SPACES: Final = frozenset(("\\,", "\\;", "\\:", "\\ ", "\\\\", "&", "~"))

_RAISED: Final = str.maketrans("0123456789+-−=()ni*′⊤", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ*′ᵀ")
_LOWERED: Final = str.maketrans("0123456789+-−=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ")
_SMALL: Final = "".join(map(chr, {*_RAISED.values(), *_LOWERED.values()} - {ord("*")}))
_NEEDLESS_SPACE: Final = re.compile(
    rf"(?<=[(\[{{⟨⌊⌈‖√∂∇]) | (?=[)\]}}⟩⌋⌉,;:.^_{_SMALL}])|(?<=\w) (?=[({{])|(?<=[= (]−) |(?<=^−) "
)
_TEX: Final = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)


class _Formula:
    """Reads one formula by recursive descent over its commands, braces and characters."""

    def __init__(self, tex: str) -> None:
        self.tokens: list[str] = _TEX.findall(tex)
        self.at = 0
        self.depth = 0

    def read(self) -> str:
        plain = ""
        while self.at < len(self.tokens):  # a brace that closes nothing is passed over
            plain += self.group()
        plain = " ".join(plain.split())
        return _NEEDLESS_SPACE.sub("", plain).strip()

    def group(self) -> str:
        """Everything up to the brace that closes."""
        parts = []
        while self.at < len(self.tokens) and (token := self.next()) != "}":
            parts.append(self.one(token))
        return "".join(parts)

    def next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def argument(self) -> str:
        """What a command or a ^ takes: a group, or the next sign."""
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.one(self.next()) if self.at < len(self.tokens) and self.tokens[self.at] != "}" else ""

    def one(self, token: str) -> str:
        if self.depth == DEEPEST:
            return ""
        self.depth += 1
        found = self.command(token[1:]) if len(token) > 2 and token[0] == "\\" else self.sign(token)
        self.depth -= 1
        return found

    def sign(self, token: str) -> str:
        match token:
            case "{":
                return self.group()
            case "^":
                return _shifted(self.argument(), _RAISED, "^")
            case "_":
                return _shifted(self.argument(), _LOWERED, "_")
            case "-":
                return "−"
            case r"\|":
                return "‖"
            case "=" | "<" | ">":
                return f" {token} "
            case _ if token in _SPACES or token.isspace():
                return " "
            case _:
                return token[-1] if token != r"\!" else ""

    def command(self, name: str) -> str:
        match name:
            case "frac" | "tfrac" | "dfrac":
                return f" {_grouped(self.argument())}/{_one_thing(self.argument())} "
            case "binom":
                return f"({self.argument()} choose {self.argument()})"
            case "sqrt":
                return f"√{_one_thing(self.argument())}"
            case "pmod":
                return f" (mod {self.argument()})"
            case "begin" | "end":
                self.argument()
                return " "
            case "quad" | "qquad":
                return " "
            case "left" | "right":
                self.at += self.tokens[self.at : self.at + 1] == ["."]
                return ""
            case _ if name in _ACCENTS:
                under = self.argument().strip()
                return under + _ACCENTS[name] if len(under) == 1 else under
            case _ if name in _SPACED:
                return f" {_SPACED[name]} "
            case _ if name in _TIGHT:
                return _TIGHT[name]
            case _:  # a font, a size or the like
                return self.argument()


def _shifted(text: str, signs: dict[int, int], mark: str) -> str:
    """`text` as an exponent or an index: in small characters where all of them exist, but for words."""
    text = text.strip()
    close = text.replace(" ", "")
    if all(ord(character) in signs for character in close) and not re.search("[a-z]{3}", close):
        return close.translate(signs)
    return mark + (text if text.isalnum() or len(text) == 1 else f"({text})")


def _grouped(text: str) -> str:
    """`text` in parentheses, unless it is a product or less."""
    text = text.strip()
    return text if re.fullmatch(r"([^\s+−=·×,/()]|\^\([^()]*\))*", text) else f"({text})"


def _one_thing(text: str) -> str:
    """`text` in parentheses, unless it is a number or one letter with its accents, exponents and indices."""
    text = text.strip()
    return text if re.fullmatch(rf"([0-9.]+|\w)([{_SMALL}*′\u0300-\u036f]|[_^]\w+)*", text) else f"({text})"


# Lengths are bounded so that signs which nothing closes cost no more than that.
_VERBATIM: Final = re.compile(
    r"^ *```[^\n]*\n(?P<block>.{,5000}?)^ *```[^\n]*$"
    r"|(?P<ticks>`+)(?P<code>.{1,1000}?)(?P=ticks)"
    r"|(?<!\\)(?P<dollars>\$\$?)(?P<tex>(?:[^$\\]|\\.){1,2000})(?P=dollars)",
    re.DOTALL | re.MULTILINE,
)
_WIDE = "[\u3000-\u9fff\uf900-\ufaff\uff00-\uffef]"  # Chinese characters and punctuation: a line break is no space
_KEPT: Final = re.compile("\0([0-9]+)\0")
_MARKUP: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r"^[ |:-]*---[ |:-]*$", re.MULTILINE), ""),
    (re.compile(r"^ *\|(.*)\| *$", re.MULTILINE), lambda row: row[1].replace("|", "·")),
    (re.compile(r"^ *(?:#{1,6}|>)\s", re.MULTILINE), ""),
    (re.compile(r"^ *[-*+]\s+", re.MULTILINE), "• "),
    (re.compile(r"!?\[([^\]\n]{,500})\]\([^)\n]{,2000}\)"), r"\1"),
    (re.compile(r"(\*\*\*|\*\*|~~)(?=\S)(.{1,500}?)(?<=\S)\1", re.DOTALL), r"\2"),
    (re.compile(r"(?<![\w*])([*_]{1,3})(?=[^\s*_])(.{1,500}?)(?<=[^\s*_])\1(?![\w*])", re.DOTALL), r"\2"),
    (re.compile(rf"(?<={_WIDE})\n *(?={_WIDE})"), ""),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)


@lru_cache(maxsize=1 << 11)
def readable(markdown: str) -> str:
    """`markdown` in one line of plain characters: its words, and formulas as one would write them without TeX."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(_Formula(found["tex"]).read() if found["tex"] else found["code"] or found["block"] or "")
        return f"\0{len(kept) - 1}\0"

    text = _VERBATIM.sub(keep, markdown.replace("\0", ""))
    for pattern, instead in _MARKUP:
        text = pattern.sub(instead, text)
    return " ".join(_KEPT.sub(lambda place: kept[int(place[1])], text).split())
