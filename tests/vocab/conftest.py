"""Without the vocabularies these tests are skipped; where `dev.py test` runs them, they fail."""

import pytest

from . import vocabularies


@pytest.fixture(autouse=True, scope="session")
def _need_vocabularies() -> None:
    if vocabularies.FOLDER.is_dir():
        return
    reason = f"{vocabularies.FOLDER} is missing: run `python scripts/dev.py setup`"
    if vocabularies.must_be_there():
        pytest.fail(reason)
    pytest.skip(reason)
