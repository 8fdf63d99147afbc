"""The page at ``/``: how things stand, in plain words, and where to look."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from importlib import resources
from string import Template

from exporter import PROJECT_URL
from exporter.model import HOUR, Report
from exporter.money.recent import Spent
from exporter.web import words
from exporter.web.pages import Answer, Page

RUNBOOKS = f"{PROJECT_URL}/blob/main/deploy/runbooks.md"
FIRST_SCRAPE = " Counters stand at 0 until some minutes after the metrics are first scraped."


@dataclass(frozen=True, slots=True)
class ReportStatus:
    """How it stands with the polls of one report; all times are Unix seconds.

    ``reached`` is the watermark of usage, and the newest billed day of cost. ``reason`` is why attempts fail since
    ``failing_since``; with ``is_down`` a poll has ended so, else it is still tried.
    """

    report: Report
    last_success: float | None = None
    reached: float | None = None
    next_poll: float | None = None
    failing_since: float | None = None
    reason: str | None = None
    is_down: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """How it stands at ``now`` (Unix seconds): money in USD, None where it is not known, and the reports."""

    now: float
    organization: str | None = None
    billed: Decimal | None = None
    unbilled: Decimal | None = None
    recent: Spent | None = None
    reports: tuple[ReportStatus, ...] = ()


def landing(status: Callable[[], Status], version: str, telemetry_path: str) -> Page:
    """Return the page."""
    style = _file("landing.css")
    given = {"style": style, "project": PROJECT_URL, "version": escape(version), "metrics": escape(telemetry_path)}
    page = Template(_file("landing.html"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    headers = (
        ("Content-Security-Policy", f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    )

    def answer(_request: object) -> Answer:
        text = page.substitute(given, **_filled(status()))
        # A name may hold half a surrogate pair, which nothing can encode.
        return Answer("text/html; charset=utf-8", text.encode(errors="replace"), headers=headers)

    return answer


def _file(name: str) -> str:
    return resources.files("exporter.web").joinpath(name).read_text("utf-8")


def _filled(status: Status) -> dict[str, str]:
    """Return what stands for each name in the page, as HTML."""
    name = status.organization
    tone, headline, advice = _headline(status)
    return {
        "title": escape(f"{name} · anthropic-exporter" if name else "anthropic-exporter"),
        "organisation": f"<bdi>{escape(name)}</bdi>" if name else "The organisation's name is not known yet",
        "tone": tone,
        "headline": headline,
        "advice": advice,
        "reports": "\n".join(_row(report, status.now) for report in status.reports),
        "moment": words.moment(status.now),
        **_month(status),
        **_recent(status),
    }


def _headline(status: Status) -> tuple[str, str, str]:
    """Return the tone, what there is to say first, and what to do about it."""
    down = [report for report in status.reports if report.is_down]
    waiting = [report for report in status.reports if report.last_success is None and not report.is_down]
    if down:
        why = [words.failure(reason) for reason in {report.reason or "" for report in down}]
        extent = "Nothing new is read." if len(down) == len(status.reports) else f"Concerned: {_listed(down)}."
        if len(why) == 1:
            return "bad", f"{escape(why[0].meaning)}.", f"{extent} {escape(why[0].remedy)}"
        return "bad", f"{len(down)} of {len(status.reports)} reports fail.", f"{extent} Why, and what to do, is below."
    if waiting:
        trouble = " Attempts fail so far; why, and what to do, is below." if any(one.reason for one in waiting) else ""
        return "wait", "Waiting for the Admin API.", f"Not read yet: {_listed(waiting)}.{trouble}"
    return "good", "All is well.", "The last poll of each report has succeeded."


def _listed(reports: list[ReportStatus]) -> str:
    return ", ".join(words.REPORTS[report.report][0] for report in reports)


def _month(status: Status) -> dict[str, str]:
    billed, unbilled = status.billed, status.unbilled
    total = None if billed is None or unbilled is None else billed + unbilled
    reached = {report.report: report.reached for report in status.reports}
    bill, usage = reached.get("cost"), reached.get("usage")
    return {
        "month": words.month(status.now),
        "total": _usd(total),
        "share": _share(billed, total) if billed is not None and total else "",
        "billed": _usd(billed),
        "billed_note": _billed_note(billed, bill),
        "unbilled": _usd(unbilled),
        "unbilled_note": "waits for usage and the bill" if unbilled is None else _up_to(usage, status.now),
    }


def _billed_note(billed: Decimal | None, newest_day: float | None) -> str:
    if newest_day is None:
        return "waits for the bill" if billed is None else "no finished day has a bill yet"
    return f"finished UTC days up to {words.day(newest_day).rpartition(' ')[0]}"


def _up_to(usage_time: float | None, now: float) -> str:
    return "estimated" if usage_time is None else f"estimated, up to {words.clock(usage_time, now)}"


def _share(part: Decimal, total: Decimal) -> str:
    percent = max(0.0, min(100.0, float(100 * part / total)))
    return (
        '<svg class="share" aria-hidden="true">'
        f'<rect class="billed" width="{percent:.1f}%" height="100%"></rect>'
        f'<rect class="estimated" x="{percent:.1f}%" width="{100 - percent:.1f}%" height="100%"></rect></svg>\n'
    )


def _recent(status: Status) -> dict[str, str]:
    spent, now = status.recent, status.now
    if spent is None:
        return {"recent_title": "Last hour", "recent": _usd(None), "recent_note": "Waits for usage."}
    start, end = words.clock(spent.start, now), words.clock(spent.end, now)
    title, note = "Last hour", f"Estimated, for usage from {start} to {end}."
    if spent.end - spent.start < HOUR:
        title = f"Last {words.minutes(spent.end - spent.start)}"
        note = f"Estimated, for usage since {start}, when counting began.{'' if spent.usd else FIRST_SCRAPE}"
    return {"recent_title": title, "recent": _usd(spent.usd), "recent_note": note}


def _usd(amount: Decimal | None) -> str:
    return '<span class="unknown">not known yet</span>' if amount is None else escape(words.usd(amount))


def _row(report: ReportStatus, now: float) -> str:
    """Return the rows of one report."""
    name, brings = words.REPORTS[report.report]
    tone, state = _state(report)
    success, next_poll = report.last_success, report.next_poll
    cells = {
        "Last success": "none yet" if success is None else words.ago(success, now),
        "Reaches": _reaches(report, now),
        "Next poll": "–" if next_poll is None else words.ahead(next_poll, now),  # noqa: RUF001 - a dash
    }
    shown = "".join(f'<td role="cell" data-label="{label}"><div>{cell}</div></td>' for label, cell in cells.items())
    return (
        f'<tbody role="rowgroup"><tr role="row"><th role="rowheader" scope="row">{name} '
        f'<b class="badge {tone}">{state}</b><span>{brings}</span></th>{shown}</tr>{_why(report, now)}</tbody>'
    )


def _state(report: ReportStatus) -> tuple[str, str]:
    if report.is_down:
        return "bad", "failing"
    if report.reason:
        return "wait", "trying again"
    return ("wait", "waiting") if report.last_success is None else ("good", "good")


def _reaches(report: ReportStatus, now: float) -> str:
    if report.reached is not None and report.report == "cost":
        return f"billed up to {words.day(report.reached)}"
    if report.reached is not None:
        return f"counts up to {words.clock(report.reached, now)}<span>{words.ago(report.reached, now)}</span>"
    if report.last_success is None:
        return "nothing yet"
    return "no bill yet" if report.report == "cost" else f"as of {words.clock(report.last_success, now)}"


def _why(report: ReportStatus, now: float) -> str:
    if report.reason is None or report.failing_since is None:
        return ""
    failure, since = words.failure(report.reason), report.failing_since
    return (
        f'<tr role="row" class="why {_state(report)[0]}"><td role="cell" colspan="4"><p>'
        f"<b>{escape(failure.meaning)}</b>, since {words.clock(since, now)} ({words.ago(since, now)}). "
        f'{escape(failure.remedy)} <a href="{RUNBOOKS}#{failure.runbook.lower()}">Runbook</a></p></td></tr>'
    )
