"""What time it is."""

from exporter.polling.clock import TOLERANCE, ApiClock


class Host:
    """A clock and a timer that we set."""

    def __init__(self, *skews: float) -> None:
        self.wall, self.uptime = 1000.0, 50.0
        self.clock = ApiClock(lambda: self.wall, lambda: self.uptime)
        for skew in skews:
            self.clock.heard(skew)

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds


def test_the_host_is_believed_until_the_api_was_heard_and_while_it_agrees() -> None:
    host = Host()
    assert (host.clock.now(), host.clock.known) == (1000, False)
    host.clock.heard(TOLERANCE - 1)
    assert (host.clock.now(), host.clock.known) == (1000, True)


def test_a_wrong_host_is_corrected_by_two_answers_that_agree_and_the_timer_carries_on() -> None:
    host = Host(600)
    assert not host.clock.known
    host.clock.heard(601)
    host.sleep(5)
    assert host.clock.now() == 404
    assert host.clock.made() == 399


def test_one_answer_with_a_wrong_date_is_not_believed() -> None:
    host = Host(0, 0, -31536000, 1)
    assert host.clock.now() == 1000
    host = Host(600, 600, -31536000, 600)
    assert host.clock.now() == 400


def test_a_step_of_the_host_is_not_followed() -> None:
    host = Host(0)
    host.wall += 3600
    assert host.clock.now() == 1000


def test_an_answer_without_a_date_changes_nothing() -> None:
    host = Host()
    host.clock.heard(None)
    assert not host.clock.known


def test_what_is_served_never_goes_back_once_the_api_was_heard() -> None:
    host = Host()
    assert host.clock.served() == 1000
    for skew in (600, 600):
        host.clock.heard(skew)
    assert host.clock.served() == 400
    for skew in (700, 700):
        host.clock.heard(skew)
    assert (host.clock.now(), host.clock.served()) == (300, 400)
