import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch

from demos import kit
from demos.kit import export

DEMO = kit.load("softmax_temperature")
PARAMS = DEMO.params(temperature=2.0)
RESULT = DEMO.result(PARAMS)


def test_json_carries_the_parameters_the_readings_and_the_traces():
    document = json.loads(export.as_json(DEMO, PARAMS, RESULT))
    assert document["params"]["temperature"] == 2.0
    assert document["readings"] == DEMO.readings(PARAMS, RESULT)
    drawn = document["figures"][0]["traces"][1]
    assert drawn["name"] == "T = 2" and drawn["y"] == RESULT.softened.tolist()


def test_csv_has_a_row_for_every_point():
    rows = list(csv.DictReader(io.StringIO(export.as_csv(DEMO, PARAMS, RESULT))))
    softened = [float(row["y"]) for row in rows if row["trace"] == "T = 2"]
    assert softened == RESULT.softened.tolist()


def test_html_stands_alone():
    page = export.as_html(DEMO, PARAMS, RESULT)
    assert page.count("plotly.js v") >= 1 and 'src="http' not in page


def test_what_is_not_finite_is_null_wherever_it_stands():
    text = export.json_text({"a": math.nan, "b": (1, -math.inf), "c": torch.tensor([[0.5, math.inf]]), "d": Path("x")})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1, None], "c": [[0.5, None]], "d": "x"}
