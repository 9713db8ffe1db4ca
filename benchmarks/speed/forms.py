"""The command of POST /items as the product writes it, beside other forms of it, without HTTP and a projector."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from time import perf_counter
from typing import Final

from api.items.commands import create_item
from api.items.schemas import ItemCreate
from api.pool import Pool
from api.unit_of_work import UnitOfWork
from benchmarks.speed.benchmark import Benchmark, Measure, Scale, Target, ratio
from benchmarks.speed.rivals.command_forms import FORMS, Form, Opened
from benchmarks.speed.rivals.engine import create_engine
from benchmarks.speed.servers import Servers, Store
from benchmarks.speed.writing import tags_of, with_an_owner

WRITERS: Final = 8
SAID: Final = {"orm": "through the ORM", "core": "in SQLAlchemy's Core", "one": "in one statement"}


async def _ours(opened: Opened, new: ItemCreate) -> None:
    await create_item(UnitOfWork(opened.pool, awaited=True, trace_context=None), new)


@contextmanager
def forms(servers: Servers, scale: Scale, *, other: str) -> Iterator[tuple[Measure, Measure]]:
    """Yield the commands a second of some writers, as the product does them, and in the other form."""
    seconds, numbers = scale.spell(3.0), count()
    with servers.store() as store:
        with_an_owner(store)

        def rate(form: Form) -> float:
            store.postgres.execute("TRUNCATE outbox")
            return asyncio.run(_rate(store, form, numbers, seconds))

        yield partial(rate, _ours), partial(rate, FORMS[other])


async def _rate(store: Store, form: Form, numbers: Iterator[int], seconds: float) -> float:
    opened = Opened(
        create_engine(store.settings, "bench", pool_size=WRITERS, pool_timeout=30, enable_seqscan="off"),
        Pool(store.settings, "bench", size=WRITERS, timeout=30, enable_seqscan="off"),
    )
    done = 0

    async def write(until: float) -> None:
        nonlocal done
        while perf_counter() < until:
            n = next(numbers)
            await form(opened, ItemCreate(name=f"item {n}", sell_in=1, quality=2, owner_id=1, tags=tags_of(n)))
            done += 1

    begun = perf_counter()
    await asyncio.gather(*(write(begun + seconds) for _ in range(WRITERS)))
    took = perf_counter() - begun
    await opened.engine.dispose()
    await opened.pool.close()
    return done / took


COMMAND_FORMS: Final[tuple[Benchmark, ...]] = tuple(
    ratio(
        f"form-{name}",
        f"the command of POST /items over the same {said}, {WRITERS} writers",
        Target(0.5 if name == "one" else 1.0),
        partial(forms, other=name),
        unit="commands/s",
    )
    for name, said in SAID.items()
)
