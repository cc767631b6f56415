"""What the tests of single demos share: a demo's method is broken on purpose, and its laws must notice."""

from functools import reduce

import pytest

from demos import kit


@pytest.fixture
def laws_notice(request):
    """Checks a table of mistakes on the demo that the test file is named after.

    The table: the mistake in words -> what it puts in place of which names of the demo ("Class.method" too), the checks
    that hold without it and must fail with it, and, where the defaults do not show it, the parameters to change.
    Every law must be in the table.
    """
    demo = kit.load(request.path.stem.removeprefix("test_"))

    def check(mistakes):
        for mistake, (wrong, names, *changes) in mistakes.items():
            params = demo.params(**(changes[0] if changes else {}))
            for name in names:
                right = demo.checks[name].run(params)
                assert right.holds, (name, right)
                with pytest.MonkeyPatch.context() as patch:
                    for target, replacement in wrong.items():
                        *owner, replaced = target.split(".")
                        patch.setattr(reduce(getattr, owner, demo.module), replaced, replacement)
                    broken = demo.checks[name].run(params)
                assert broken.evidence and not broken.holds, (mistake, name, broken)
        broken_laws = {name for _, names, *_ in mistakes.values() for name in names}
        assert {name for name, check in demo.checks.items() if check.kind == "law"} <= broken_laws

    return check
