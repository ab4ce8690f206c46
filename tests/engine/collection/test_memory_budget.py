"""The bytes between the service and the files are bounded, and no result waits forever."""

from __future__ import annotations

import asyncio

from scrapedo_dagster.engine.collection.memory_budget import MemoryBudget, Reservation

ROW = 4000  # bytes that each takes besides its content


async def admitted(*reservations: tuple[Reservation, int | None]) -> list[asyncio.Task[None]]:
    """Tasks that wait to be admitted, once those that are admitted have ended."""
    waiting = [asyncio.create_task(reservation.admit(amount)) for reservation, amount in reservations]
    await settled()
    return waiting


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_result_beyond_the_limit_waits_until_others_are_written() -> None:
    budget = MemoryBudget(2 * (ROW + 100))
    a, b, c = (budget.reserve() for _ in range(3))
    waiting = await admitted((a, 100), (b, 100), (c, 100))
    assert [each.done() for each in waiting] == [True, True, False]
    for each in (a, b):
        each.set_size(100)
        each.take()
        each.start_writing()
    await settled()
    assert not waiting[2].done(), "it is the first, but results that are being written will free their bytes"
    a.release()
    await settled()
    assert waiting[2].done()
    b.release()
    c.release()
    assert budget.held == 0


async def test_the_first_is_admitted_when_all_others_wait_for_it() -> None:
    budget = MemoryBudget(2 * (ROW + 100))
    first, *others = (budget.reserve() for _ in range(3))
    assert all(each.done() for each in await admitted((others[0], 100), (others[1], 100)))
    for each in others:
        each.set_size(100)
    assert all(each.done() for each in await admitted((first, 100)))


async def test_a_result_larger_than_the_limit_is_read_alone() -> None:
    budget = MemoryBudget(ROW + 100)
    small, large, last = (budget.reserve() for _ in range(3))
    waiting = await admitted((small, 100), (large, 10**9), (last, 1))
    assert [each.done() for each in waiting] == [True, False, False]
    small.set_size(100)
    small.take()
    small.start_writing()
    small.release()
    await settled()
    assert [each.done() for each in waiting] == [True, True, False]


async def test_later_results_do_not_pass_one_that_waits() -> None:
    budget = MemoryBudget(3 * ROW + 100)
    first, large, small = (budget.reserve() for _ in range(3))
    waiting = await admitted((first, 100), (large, 2 * ROW), (small, 1))
    assert [each.done() for each in waiting] == [True, False, False]


async def test_a_response_of_unknown_length_reserves_the_largest_recent_size() -> None:
    budget = MemoryBudget()
    known, unknown, small, later = (budget.reserve() for _ in range(4))
    known.set_size(5_000_000)
    await unknown.admit(None)
    assert unknown.held == ROW + 5_000_000
    for _ in range(500):
        small.set_size(1000)
    await later.admit(None)
    assert later.held == ROW + 1000


async def test_a_repeated_request_replaces_the_bytes_of_the_first() -> None:
    budget = MemoryBudget()
    reservation = budget.reserve()
    await reservation.admit(1000)
    await reservation.admit(500)  # the request was repeated
    assert budget.held == ROW + 500


async def test_a_canceled_wait_blocks_no_other() -> None:
    budget = MemoryBudget(ROW + 100)
    first, second, third = (budget.reserve() for _ in range(3))
    waiting = await admitted((first, 100), (second, 100), (third, 100))
    waiting[1].cancel()
    await settled()
    second.release()
    first.set_size(100)
    first.take()
    first.start_writing()
    first.release()
    await settled()
    assert waiting[2].done()
    assert budget.held == ROW + 100
