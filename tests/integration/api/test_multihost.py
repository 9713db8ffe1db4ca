"""The driver reads DATABASE_URL: what it understands, every part of the product understands."""

from collections.abc import Callable

import httpx
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from devstack.ports import free_ports
from tests.fixtures.databases import alembic


def test_of_several_hosts_the_one_that_answers_is_taken(
    make_api: Callable[..., httpx.Client], database_url: str
) -> None:
    url = make_url(database_url)
    (nobody,) = free_ports(1)
    several = f"postgresql://{url.username}:{url.password}@127.0.0.1:{nobody},{url.host}:{url.port}/{url.database}"

    api = make_api(database_url=SecretStr(several))
    created = api.post("/users", json={"name": "Ada", "email": "ada@example.org"}, headers={"Prefer": "wait=0"})

    assert created.status_code == 202
    assert "(head)" in alembic(several, "current")
