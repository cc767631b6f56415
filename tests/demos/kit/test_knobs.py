import math
import random
from dataclasses import dataclass
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demos.kit import BadValue, Choice, Knobs, Numbers, Range, Seed, Text, Toggle, knobs, probes


def _even_length(text):
    if len(text) % 2:
        raise ValueError("it has an odd number of letters")


@dataclass(frozen=True)
class Params(Knobs):
    share: Annotated[float, Range(0, 1, doc="share s")] = 0.5
    points: Annotated[int, Range(10, 10_000, log=True, doc="points N")] = 100
    sampler: Annotated[str, Choice("uniform", "sobol", doc="sampler")] = "uniform"
    hard: Annotated[bool, Toggle(doc="hard samples", view=True)] = False
    logits: Annotated[tuple[float, ...], Numbers(-5, 5, most=4)] = (1.0, 2.0)
    word: Annotated[str, Text(kind="an even word", parse=_even_length, legal=("ab",), wrong=("abc",))] = ""
    step: Annotated[float, Range(0.1, 2, when=("sampler", ("sobol",)))] = 1.0
    seed: Seed = 0


@given(st.integers())
def test_any_legal_parameters_survive_text_and_back(seed):
    params = list(probes(Params, rng=random.Random(seed), random_draws=1))[-1]
    assert Params.read(params.write()) == (params, ())


def test_defaults_are_written_as_nothing():
    assert Params().write() == {}
    assert Params(share=1, hard=True).write() == {"share": "1", "hard": "true"}


def test_a_bad_value_says_which_knob_what_was_given_and_what_it_takes():
    with pytest.raises(BadValue, match=r"share: 2 is not a number from 0 to 1\."):
        Params(share=2)
    with pytest.raises(BadValue, match=r"points: 9 is not a whole number from 10 to 10000\."):
        Params(points=9)
    with pytest.raises(BadValue, match=r"odd number of letters"):
        Params(word="abc")


def test_reading_keeps_what_is_good_and_names_what_is_bad():
    params, bad = Params.read({"share": "0.25", "points": "1e9", "sampler": "quantum", "colour": "red"})
    assert params == Params(share=0.25)
    assert [problem.knob for problem in bad] == ["points", "sampler", "colour"]
    assert "share" in str(bad[-1])


@pytest.mark.parametrize("text", ["nan", "inf", "", "1e999", "x" * 5000, "0x10"])
def test_texts_that_are_no_number_are_refused(text):
    assert Params.read({"share": text})[1]


def test_a_list_is_read_with_spaces_brackets_and_full_width_commas():
    assert Params.read({"logits": "[1, -2.5，3]"})[0].logits == (1.0, -2.5, 3.0)


def test_a_huge_legal_looking_number_of_digits_does_not_crash_the_reader():
    assert Params.read({"points": "9" * 1000})[1]


def test_the_key_of_a_result_leaves_out_what_only_changes_the_view():
    assert Params().run_key() == Params(hard=True).run_key() != Params(share=0.1).run_key()


def test_a_knob_matters_only_where_its_condition_holds():
    step = knobs(Params)["step"]
    assert not step.relevant({"sampler": "uniform"})
    assert step.relevant({"sampler": "sobol"}) and knobs(Params)["sampler"].relevant({})


def test_a_field_without_a_knob_is_an_error_of_the_author():
    @dataclass(frozen=True)
    class Careless(Knobs):
        share: float = 0.5

    with pytest.raises(TypeError, match="declares no knob"):
        Careless()


@pytest.mark.parametrize("name", list(knobs(Params)))
def test_every_knob_draws_only_what_it_accepts_and_accepts_nothing_illegal(name):
    knob, rng = knobs(Params)[name], random.Random(0)
    for value in [*knob.edges(), *(knob.draw(rng) for _ in range(50))]:
        assert knob.accept(value) == value
    for value in knob.illegal():
        with pytest.raises((ValueError, TypeError)):
            knob.accept(value)


def test_a_log_range_draws_evenly_over_the_logarithm():
    rng = random.Random(0)
    draws = [Range(1, 10_000, log=True).draw(rng) for _ in range(4000)]
    below = sum(draw < 100 for draw in draws) / len(draws)
    # Binomial(4000, 1/2): five standard deviations are 0.04, a false failure in 1.7 million.
    assert math.isclose(below, 0.5, abs_tol=0.04)
