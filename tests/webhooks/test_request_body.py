"""The budget of all bodies is given out in the order of the requests, and given back whatever becomes of these."""

from __future__ import annotations

import asyncio

import pytest

from scrapedo_dagster.webhooks.request_body import BodyBudget


async def test_a_small_body_does_not_overtake_a_large_one() -> None:
    budget, order = BodyBudget(10), list[str]()

    async def hold(name: str, amount: int) -> None:
        async with budget.reserved(amount):
            order.append(name)
            await asyncio.sleep(0)

    async with budget.reserved(6):
        waiting = [asyncio.create_task(hold("large", 10)), asyncio.create_task(hold("small", 1))]
        await asyncio.sleep(0.01)
        assert order == []
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert order == ["large", "small"]
    await asyncio.wait_for(hold("whole", 10), 5)


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_request_that_stops_waiting_blocks_no_other(is_first: bool) -> None:
    budget = BodyBudget(10)

    async def hold(amount: int) -> None:
        async with budget.reserved(amount):
            pass

    async with budget.reserved(6):
        large = asyncio.create_task(hold(10))
        await asyncio.sleep(0)
        small = asyncio.create_task(hold(4))
        await asyncio.sleep(0)
        assert not small.done()
        (large if is_first else small).cancel()
        if is_first:
            await asyncio.wait_for(small, 5)
    await asyncio.gather(large, small, return_exceptions=True)
    await asyncio.wait_for(hold(10), 5)
