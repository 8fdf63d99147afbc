"""The PromQL that several panels share: what is counted, over which window, by which names.

Every query stands by itself: none needs a recording rule. Money is the exporter's estimate unless it says billed; where
both are added up, each day is in exactly one of them.
"""

ANY = 'job=~"$job"'
PICKED = f'{ANY}, workspace_id=~"$workspace", model=~"$model", service_tier=~"$service_tier"'
"""What the variables select, of everything that has a workspace, a model and a tier."""
PICKED_KEYS = f'{ANY}, workspace_id=~"$workspace", model=~"$model", api_key_id=~"$api_key"'

SPEND = "anthropic_estimated_cost_usd_total"
KEY_SPEND = "anthropic_api_key_estimated_cost_usd_total"
TOKENS = "anthropic_usage_tokens_total"
KEY_TOKENS = "anthropic_api_key_usage_tokens_total"
SEARCHES = "anthropic_usage_server_tool_requests_total"
PRICED = "model, service_tier, context_window, inference_geo"

USAGE_MARK = f'anthropic_usage_watermark_timestamp_seconds{{{ANY}, report="usage"}}'
BEHIND = f"time() - min(max by (job, instance) (last_over_time({USAGE_MARK}[1d])))"
"""Seconds that the counters are behind, those of the exporter that is most so; one that fell silent is, too."""
SILENT = (
    f"count(count_over_time(anthropic_exporter_build_info{{{ANY}}}[1d]) "
    f"unless anthropic_exporter_build_info{{{ANY}}}) or vector(0)"
)
"""Exporters that were there in the last day and are not now."""
BUDGET = f"sum(anthropic_budget_usd{{{ANY}}})"
LEFT_OF_MONTH = "(days_in_month() - day_of_month() + 1 - hour() / 24 - minute() / 1440)"
"""Days until the UTC month ends."""
GONE_OF_MONTH = "scalar((day_of_month() - 1 + hour() / 24 + minute() / 1440) / days_in_month())"


def total(expr: str, by: str = "") -> str:
    """Return the sum, by the labels ``by``."""
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def grown(counter: str, window: str, by: str = "", *, where: str = PICKED, offset: str = "") -> str:
    """Return by how much a counter grew in a window."""
    shift = f" offset {offset}" if offset else ""
    return total(f"increase({counter}{{{where}}}[{window}]{shift})", by)


def spent(window: str, by: str = "", *, where: str = PICKED, offset: str = "") -> str:
    """Return the dollars that were spent in a window, by the minute."""
    return grown(SPEND, window, by, where=where, offset=offset)


def spent_by_key(window: str, by: str = "", *, where: str = PICKED_KEYS, offset: str = "") -> str:
    """Return the dollars that API keys spent in a window."""
    return grown(KEY_SPEND, window, by, where=where, offset=offset)


def per_second(counter: str, by: str = "", *, where: str = PICKED) -> str:
    """Return how fast a counter grows."""
    return total(f"rate({counter}{{{where}}}[$__rate_interval])", by)


def so_far(by: str = "", *, where: str = PICKED) -> str:
    """Return the dollars of this UTC month: billed days by the bill, all others as estimated."""
    families = "anthropic_cost_month_to_date_usd|anthropic_cost_unbilled_estimate_usd"
    return total(f'{{__name__=~"{families}", {where}}}', by)


def billed(family: str, by: str = "", *, where: str = PICKED) -> str:
    """Return the dollars of a gauge of the bill."""
    return total(f"anthropic_cost_{family}_usd{{{where}}}", by)


def workspace_budget(*, where: str = ANY) -> str:
    """Return the monthly budget of each workspace that has one."""
    return f"sum by (workspace_id) (max by (job, workspace_id) (anthropic_workspace_budget_usd{{{where}}}))"


def per_day(by: str = "", *, where: str = PICKED) -> str:
    """Return the dollars a day of the last seven, or of as many as there were; nothing in the first hour.

    Each exporter's dollars are divided by its own days.
    """
    own = ", ".join(filter(None, ("job", "instance", by)))
    began = f"min by (job, instance) (min_over_time({USAGE_MARK}[7d]))"
    days = f"((max by (job, instance) ({USAGE_MARK}) - {began}) / 86400 > 1 / 24)"
    return total(f"{spent('7d', own, where=where)} / on (job, instance) group_left () {days}", by)


def forecast(by: str = "", *, where: str = PICKED) -> str:
    """Return the dollars of the month if its other days are like the last seven."""
    known, rest = so_far(by, where=where), f"{per_day(by, where=where)} * scalar({LEFT_OF_MONTH})"
    # What was idle for a week costs no more than it has.
    return f"{known} + ({rest} or {known} * 0 and on () {per_day(where=where)})" if by else f"{known} + {rest}"


def spread(*, where: str = PICKED) -> str:
    """Return the dollars by which the rest of the month misses its forecast in one of five months, either way.

    It is 1.28 standard deviations of the last two weeks' days, which are taken to be independent; less than five days
    tell nothing.
    """
    days = f"({spent('1d', where=where)})[14d:1d]"
    chance = f"1.28 * stddev_over_time({days}) * scalar(sqrt({LEFT_OF_MONTH}))"
    return f"({chance} and count_over_time({days}) >= 5)"


def least(*, where: str = PICKED) -> str:
    """Return the lower end of the forecast; the month costs no less than it has."""
    return f"clamp_min({forecast(where=where)} - {spread(where=where)}, scalar({so_far(where=where)}))"


def most(*, where: str = PICKED) -> str:
    """Return the upper end of the forecast."""
    return f"{forecast(where=where)} + {spread(where=where)}"


def hit_ratio(window: str, by: str = "", *, counter: str = TOKENS, where: str = PICKED) -> str:
    """Return the share of input tokens that came from the cache."""
    reads = grown(counter, window, by, where=f'{where}, token_type="cache_read"')
    inputs = grown(counter, window, by, where=f'{where}, token_type!="output"')
    return f"{reads} / ({inputs} > 0)"


def saved(window: str, by: str = "") -> str:
    """Return the dollars that caching saved: reads at the price of input, less what reads and writes cost."""
    price = f'max by ({PRICED}) (anthropic_price_usd_per_token{{{ANY}, token_type="uncached_input"}})'
    cached = f'max by ({PRICED}, token_type) (anthropic_price_usd_per_token{{{ANY}, token_type=~"cache_.+"}})'
    tokens = grown(TOKENS, window, f"workspace_id, {PRICED}, token_type", where=f'{PICKED}, token_type=~"cache_.+"')
    gain = f"(-1 * {cached} + on ({PRICED}) group_left () {price})"
    return total(f"{tokens} * on ({PRICED}, token_type) group_left () {gain}", by)


def usual(by: str, *, counter: str = SPEND, where: str = PICKED) -> str:
    """Return what an hour usually brings: the most of this hour yesterday, a week ago, and the mean of seven days.

    The hours of the past are means of three, so that a peak may come an hour earlier or later. The mean is that of as
    many hours as there were.
    """
    hours = f"on () group_left () count_over_time(max({USAGE_MARK})[7d:1h] offset 1h)"
    past = {
        "yesterday": f"{grown(counter, '3h', by, where=where, offset='23h')} / 3",
        "last week": f"{grown(counter, '3h', by, where=where, offset='167h')} / 3",
        "mean": f"{grown(counter, '7d', by, where=where, offset='1h')} / {hours}",
    }
    known = " or ".join(f'label_replace({expr}, "of", "{name}", "", "")' for name, expr in past.items())
    return f"max by ({by}) ({known})" if by else f"max({known})"


def burn(window: str, hours: int, *, where: str = ANY) -> str:
    """Return how many times faster than planned the organisation's budget is spent."""
    return f"{spent(window, where=where)} / ({BUDGET} * {hours} / 24 / scalar(days_in_month()))"


def named(expr: str, kind: str, *others: str, also: str = "", during: str = "") -> str:
    """Return ``expr``, by the id of a ``kind`` and by ``others``, with its name; without a name the id stands in.

    ``kind`` is ``workspace`` or ``api_key``; ``during`` is the span whose last name counts, if not now's. An id that
    has two names, for the moment of a change or because two exporters tell them, gets one of them: a join that fails
    would hide the money.
    """
    key, name = f"{kind}_id", f"{kind}_name"
    carried = f"{name}, {also}" if also else name
    told = f"anthropic_{kind}_info{{{ANY}}}"
    last = f"last_over_time({told}{during})" if during else told
    info = f"topk by ({key}) (1, max by ({key}, {carried}) ({last}))"
    known = f"({expr}) * on ({key}) group_left ({carried}) {info}"
    return f'{known} or on ({", ".join((key, *others))}) label_replace({expr}, "{name}", "$1", "{key}", "(.+)")'


def change(now: str, before: str) -> str:
    """Return the difference; what was not there before was 0, and so is what is not there any more."""
    return f"(({now}) - ({before}) or {now} or -1 * ({before}))"
