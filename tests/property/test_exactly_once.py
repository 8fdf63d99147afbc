"""Every token once: whatever the API does between, at the watermark the counters are the API's own sums."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE, Tokens
from tests.events import OPUS, SONNET, Use, WrittenOrganization
from tests.world import World, at, tokens, total, watermark

START = int(at("2026-03-09T22:10:17"))
SPAN = 2 * HOUR

counts = st.builds(Tokens, *[st.integers(0, 10**6)] * 6)
delays = st.one_of(st.floats(0, 290), st.floats(300, 5400), st.floats(5400, 5 * HOUR))
uses = st.builds(Use, st.floats(START - 2 * DAY, START + SPAN), st.sampled_from([SONNET, OPUS]), counts, delays)
faults = st.builds(
    Fault,
    kind=st.sampled_from([429, 500, 529, "html", "missing_next_page", "repeated_cursor", "truncated"]),
    endpoint=st.sampled_from([None, "usage"]),
    times=st.integers(1, 8),
    since=st.floats(START, START + SPAN),
    after_pages=st.integers(0, 2),
)
stale = st.builds(
    Fault,
    kind=st.just("stale"),
    endpoint=st.just("usage"),
    since=st.floats(START, START + SPAN),
    times=st.integers(1, 5),
    seconds=st.floats(1, 600),
)
pages = st.fixed_dictionaries({MINUTE: st.integers(3, 1440), HOUR: st.integers(2, 168), DAY: st.integers(1, 31)})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    happened=st.lists(uses, min_size=1, max_size=40),
    broken=st.lists(faults | stale, max_size=5),
    page_buckets=pages,
    anchor_flags=st.sampled_from([(), ("--usage.anchor", "2026-03-08")]),
    pace=st.sampled_from([120, 300, 600]),
)
def test_counters_are_the_sums_of_the_api_through_late_data_page_cuts_stale_answers_and_faults(
    happened: list[Use], broken: list[Fault], page_buckets: dict[int, int], anchor_flags: tuple[str, ...], pace: int
) -> None:
    organization = WrittenOrganization(happened)
    world = World(organization, START, "--usage.poll-interval", str(pace), *anchor_flags, page_buckets=page_buckets)
    for fault in broken:
        world.faults.add(fault)
    anchor = int(at("2026-03-08")) if anchor_flags else int((START - max(300, 1.5 * pace)) // MINUTE) * MINUTE

    world.run(SPAN, scrape_every=75)
    world.faults.clear()
    world.run(6 * HOUR, scrape_every=1800)
    page = world.run(60)

    reached = int(watermark(page) // MINUTE) * MINUTE
    assert reached >= START + SPAN
    assert tokens(page) == world.truth(anchor, reached)
    assert total(page, "anthropic_usage_overcounted_tokens") == 0
    searches = sum(use.tokens.web_search for use in happened if use.time >= anchor)
    assert total(page, "anthropic_usage_server_tool_requests_total") == searches
