"""What every demo owes its reader, whatever it shows; a new file in demos/ is tested by being there."""

import math
import random
import time

import pytest
import torch

from demos import kit
from kb.card import TOPICS

SLUGS = sorted(kit.catalog())
LIVE = [slug for slug, entry in kit.catalog().items() if entry.pace == "live"]
TRAINING = sorted(set(SLUGS) - set(LIVE))


def _probes(slug):
    return list(kit.probes(kit.load(slug).params, rng=random.Random(slug)))


def test_demos_were_found():
    assert len(SLUGS) >= 5 and LIVE and TRAINING


@pytest.mark.parametrize("slug", SLUGS)
def test_a_demo_says_what_it_is_before_it_is_imported(slug):
    entry = kit.catalog()[slug]
    assert not entry.error
    assert entry.title and entry.formula and entry.about and entry.topic in TOPICS
    assert entry.summary.endswith(".") and len(entry.summary) <= 120
    assert len(kit.load(slug).look_for) == 3


@pytest.mark.parametrize("slug", SLUGS)
def test_the_listed_checks_are_the_checks_there_are(slug):
    demo = kit.load(slug)
    assert {name: check.says for name, check in demo.checks.items()} == kit.catalog()[slug].checks
    assert sum(check.kind == "law" for check in demo.checks.values()) >= 2


@pytest.mark.parametrize("slug", SLUGS)
def test_the_method_shown_is_the_source_between_result_and_run(slug):
    shown = kit.load(slug).method()
    assert "def " in shown and "def run(" not in shown and "class Result" not in shown
    compile(shown, slug, "exec")


@pytest.mark.parametrize("slug", SLUGS)
def test_parameters_survive_the_way_through_a_permalink(slug):
    for params in _probes(slug):
        read, bad = type(params).read(params.write())
        assert read == params and not bad


@pytest.mark.parametrize("slug", SLUGS)
def test_illegal_values_are_refused_by_name(slug):
    params = kit.load(slug).params
    for name, knob in kit.knobs(params).items():
        for value in knob.illegal():
            with pytest.raises(kit.BadValue, match=name):
                params(**{name: value})


@pytest.mark.parametrize("slug", SLUGS)
def test_a_bad_permalink_names_the_value_and_takes_the_default(slug):
    params = kit.load(slug).params
    name = next(iter(kit.knobs(params)))
    read, bad = params.read({name: "\u2603", "no_such_knob": "1"})
    assert read == params()
    assert [problem.knob for problem in bad] == [name, "no_such_knob"]


@pytest.mark.parametrize("slug", SLUGS)
def test_presets_are_two_to_four_and_differ(slug):
    presets = list(kit.load(slug).presets.values())
    assert 2 <= len(presets) <= 4
    assert len({repr(preset) for preset in presets}) == len(presets)


@pytest.mark.parametrize("slug", LIVE)
def test_a_live_demo_draws_at_its_defaults_its_presets_its_edges_and_at_random(slug):
    demo = kit.load(slug)
    for params in (*_probes(slug), *demo.presets.values()):
        result = demo.result(params)
        _assert_drawn(demo, params, result)


@pytest.mark.parametrize("slug", TRAINING)
def test_a_training_demo_draws_its_first_frame_long_before_its_last(slug):
    demo = kit.load(slug)
    start = time.process_time()
    for count, result in enumerate(demo.frames(demo.params())):
        if count == 0:
            _assert_drawn(demo, demo.params(), result)
            first = time.process_time() - start
    whole = time.process_time() - start
    _assert_drawn(demo, demo.params(), result)
    assert count >= 4
    assert first < whole / 2, f"the first frame and its figures took {first:.2f} s of {whole:.2f} s"


def _assert_drawn(demo, params, result):
    figures = demo.figures(params, result)
    assert figures
    for caption, figure in figures.items():
        assert caption or len(figures) == 1
        assert figure.to_json()
    readings = demo.readings(params, result)
    assert readings and all(isinstance(value, str | int | float) for value in readings.values())


@pytest.mark.parametrize("slug", SLUGS)
def test_the_same_seed_gives_the_same_result_and_leaves_the_global_generator_alone(slug):
    demo = kit.load(slug)
    before = torch.get_rng_state()
    once, again = (next(iter(demo.frames(demo.params()))) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in vars(once).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(again, name)), name


LAWS = [(slug, name) for slug in SLUGS for name, check in kit.load(slug).checks.items() if check.kind == "law"]


@pytest.mark.parametrize(("slug", "name"), LAWS)
def test_a_law_holds_at_the_defaults_the_edges_and_at_random(slug, name):
    law = kit.load(slug).checks[name]
    for params in _probes(slug):
        outcome = law.run(params)
        assert outcome.holds, (params, outcome)


FINDINGS, REPORTS = (
    [(slug, name) for slug in SLUGS for name, check in kit.load(slug).checks.items() if check.kind == kind]
    for kind in ("finding", "report")
)


@pytest.mark.parametrize(("slug", "name"), FINDINGS)
def test_a_finding_holds_at_its_stated_settings(slug, name):
    outcome = kit.load(slug).checks[name].run(None)
    assert outcome.holds, outcome


@pytest.mark.parametrize(("slug", "name"), REPORTS)
def test_a_report_measures_a_number_whether_it_holds_or_not(slug, name):
    outcome = kit.load(slug).checks[name].run(None)
    assert not outcome.error and math.isfinite(outcome.evidence.measured), outcome
