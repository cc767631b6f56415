"""The server that the other tests look at."""

import pytest

from tests.web.running import serving


def test_a_server_that_does_not_start_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="does not exist"), serving(script=tmp_path / "nowhere.py"):
        pass
