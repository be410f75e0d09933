from __future__ import annotations

import pytest

from tests.flows.support import clean_environment


@pytest.fixture
def environment(prefect_server, tmp_path) -> dict[str, str]:
    """For commands that use the tests' Prefect server and a warehouse of their own."""
    from prefect.settings import PREFECT_API_URL

    return clean_environment(PREFECT_API_URL=PREFECT_API_URL.value(), MUSIC_WAREHOUSE=str(tmp_path / "warehouse"))
