"""Who takes over when the active provider cannot, and what each may get, on both engines."""

from dataclasses import replace

import pytest

from mailward.errors import InvalidArgument, NotFound
from mailward.ids import ProviderId, UserId
from mailward.provider.commands import Providers
from mailward.provider.relay import UnusableRelay
from mailward.provider.routing import ProviderLimits, SendLimits
from tests.support.providers import http, smtp

EDITOR = UserId("298765432109870001")


async def three(providers: Providers) -> list[ProviderId]:
    """Add three providers; the first is active."""
    ids = [
        (await providers.add_smtp(smtp(), None, EDITOR)).id,
        (await providers.add_http(http(), EDITOR)).id,
        (await providers.add_smtp(smtp(), None, EDITOR)).id,
    ]
    await providers.activate(ids[0], EDITOR)
    return ids


async def route(providers: Providers) -> list[ProviderId]:
    _, plan = await providers.plan()
    return [hop.id for hop in plan]


async def test_the_active_provider_comes_first_and_the_others_in_their_order(providers: Providers) -> None:
    a, b, c = await three(providers)

    await providers.set_failover([c, b], EDITOR)

    assert await route(providers) == [a, c, b]
    assert list(await providers.failover()) == [c, b]


async def test_a_new_list_replaces_the_old_one(providers: Providers) -> None:
    a, b, c = await three(providers)
    await providers.set_failover([c, b], EDITOR)

    await providers.set_failover([b], EDITOR)

    assert await route(providers) == [a, b]


async def test_an_active_provider_is_not_asked_twice(providers: Providers) -> None:
    a, b, c = await three(providers)
    await providers.set_failover([a, c, b], EDITOR)

    await providers.activate(c, EDITOR)

    assert await route(providers) == [c, a, b]


async def test_without_an_active_provider_nobody_takes_over(providers: Providers) -> None:
    a, b, _ = await three(providers)
    await providers.set_failover([b], EDITOR)

    await providers.deactivate(a, EDITOR)

    assert await providers.plan() == (None, ())


async def test_a_removed_provider_takes_over_no_more(providers: Providers) -> None:
    a, b, c = await three(providers)
    await providers.set_failover([c, b], EDITOR)

    await providers.remove(c, EDITOR)

    assert await route(providers) == [a, b]


async def test_a_provider_that_cannot_be_used_is_left_out(providers: Providers) -> None:
    a, b, _ = await three(providers)
    await providers.set_failover([b], EDITOR)

    await providers.change_smtp(a, replace(smtp(), host="example.com:nothing"), None, EDITOR)

    active, plan = await providers.plan()
    assert isinstance(active, UnusableRelay)
    assert [hop.id for hop in plan] == [b]


async def test_an_unknown_provider_or_one_named_twice_is_refused(providers: Providers) -> None:
    a, b, _ = await three(providers)

    with pytest.raises(NotFound):
        await providers.set_failover([b, ProviderId("5")], EDITOR)
    with pytest.raises(InvalidArgument):
        await providers.set_failover([b, b], EDITOR)
    with pytest.raises(NotFound):
        await providers.set_limits(ProviderId("5"), ProviderLimits(), EDITOR)
    assert await route(providers) == [a]


async def test_limits_reach_the_plan_with_a_new_revision(providers: Providers) -> None:
    a, *_ = await three(providers)
    _, [before] = await providers.plan()
    limits = ProviderLimits(send=SendLimits(per_second=5, per_day=1000), uncertain_retries=0)

    await providers.set_limits(a, limits, EDITOR)

    _, [hop] = await providers.plan()
    assert hop.limits == SendLimits(per_second=5, per_day=1000)
    assert hop.uncertain_retries == 0
    assert hop.revision > before.revision


async def test_limits_that_are_set_again_are_replaced_as_a_whole(providers: Providers) -> None:
    a, *_ = await three(providers)
    await providers.set_limits(a, ProviderLimits(send=SendLimits(per_day=3), uncertain_retries=0), EDITOR)

    await providers.set_limits(a, ProviderLimits(send=SendLimits(per_minute=9)), EDITOR)

    _, [hop] = await providers.plan()
    assert (hop.limits.per_minute, hop.limits.per_day, hop.uncertain_retries) == (9, 0, None)
