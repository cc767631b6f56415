"""Markdown and LaTeX in plain characters."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.card import readable
from kb.library import SHIPPED, Library
from kb.search import text

SECTIONS = [section for card in Library.open(SHIPPED).cards.values() for section in card.sections.values()]


@pytest.mark.parametrize(
    ("markdown", "plain"),
    [
        (
            "**Bold**, *slanted*, ***both***, __bold__, _slanted_, ~~gone~~.",
            "Bold, slanted, both, bold, slanted, gone.",
        ),
        ("a snake_case_name, 2 * 3 * 4, A* search", "a snake_case_name, 2 * 3 * 4, A* search"),
        ("`a * b * c_d_e` and ``a ` b``", "a * b * c_d_e and a ` b"),
        ("```python\nx = y ** 2\n```\nafter", "x = y ** 2 after"),
        ("See [the *paper*](https://example.org/a_b_c) ![chart](chart.png)", "See the paper chart"),
        ("# Heading\n> quoted\n\n- one\n  * two", "Heading quoted • one • two"),
        ("| a | $b$ |\n|:---|---|\n| 1 | 2 |", "a · b 1 · 2"),
        (r"costs \$5, a \* and \\", r"costs $5, a * and \ "[:-1]),
        ("**wide $w_i*x_i$ net**", "wide wᵢ*xᵢ net"),
        ("知识\n  蒸馏，\n好 and\nmore", "知识蒸馏，好 and more"),
        (r"As $\tau\to0$, $\lambda\in[0,1]$", "As τ → 0, λ ∈ [0,1]"),
        (r"$$\frac{\partial L}{\partial z_i}=\frac{q_i-p_i}{T}$$", "(∂L)/(∂zᵢ) = (qᵢ−pᵢ)/T"),
        (r"$e^{-rt}$, $T^2$, $10^{-5}$, $x^{(1)}$, $\alpha^*$, $A^\top$", "e^(−rt), T², 10⁻⁵, x⁽¹⁾, α*, Aᵀ"),
        (r"$L_\mathrm{seg}$, $\eta_{min}$, $h_{t-1}$, $q_K$", "L_seg, η_min, hₜ₋₁, q_K"),
        (r"$\hat{x}$, $\bar x$, $\overline{xy}$", "x\u0302, x\u0304, xy"),
        (r"$-\log(-\log u)$ and $\arg\max_k\bigl(\log\pi_k+g_k\bigr)$", "−log(−log u) and arg maxₖ(log πₖ+gₖ)"),
        (
            r"$\left\lfloor\frac n2\right\rfloor$, $\binom{n}{k}$, $\sqrt{2\pi}$, $\sqrt d$",
            "⌊n/2⌋, (n choose k), √(2π), √d",
        ),
        (r"$\left.x\right|_0$, $\{0,\,1\}$, $\|w\|^2$", "x|₀, {0, 1}, ‖w‖²"),
        (r"$\begin{aligned}a&=1\\b&=2\end{aligned}$", "a = 1 b = 2"),
        ("an open $\\frac{1 stays", "an open $\\frac{1 stays"),
    ],
)
def test_markup_becomes_what_it_means(markdown, plain):
    assert readable(markdown) == plain


def test_no_markup_is_left_of_any_section_of_the_library():
    left = [
        found[0]
        for section in SECTIONS
        for found in re.finditer(r".{,20}(\\|\$|\*\*|\]\(|\n).{,20}", readable(section))
    ]
    assert left == []


def test_every_word_that_is_searched_is_still_there_in_its_place():
    of_commands = {"aligned", "cases", "mod", "choose"}  # \\begin{aligned}, \\bmod, \\binom
    for section in SECTIONS:
        bare = re.sub(r"(?<=\])\([^)]*\)|(?<=```)\w+", "", section)  # addresses, the language of a listing
        searched, shown = (
            [word for word in text.tokens(version) if telling(word) and word not in of_commands]
            for version in (bare, readable(section))
        )
        assert searched == shown


def telling(word: str) -> bool:
    """Whether a word is more than letters of a formula that may stand closer together than they did."""
    return text.is_chinese(word) or (len(word) > 2 and word.isalpha())


@settings(max_examples=300, deadline=None)
@given(st.text(r"$\{}^_*`[]()|-#~ ab\0" + "\n知₁", max_size=60) | st.text(max_size=60))
def test_no_text_makes_it_fail_and_the_result_is_one_line(markdown):
    plain = readable(markdown)
    assert plain == " ".join(plain.split())


@pytest.mark.parametrize("tex", ["{" * 900 + "x" + "}" * 900, r"\sqrt" * 350 + "x", "x^" * 900, r"\frac{" * 300])
def test_formulas_may_be_nested_without_end(tex):
    assert "$" not in readable(f"${tex}$")


def test_time_grows_with_the_text_and_not_faster():
    def seconds(times: int) -> float:
        markdown = "**a *b _c `d $e [f| ~~g " * times
        start = time.process_time()  # what else the machine does in the meantime does not count
        readable.__wrapped__(markdown)
        return time.process_time() - start

    # Sixteen times the text takes sixteen times as long where time grows with it, 256 times where with its square.
    assert min(seconds(8_000) for _ in range(3)) < 64 * min(seconds(500) for _ in range(3))
