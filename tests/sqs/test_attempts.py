"""Attempts on FIFO queues: counted by the process that gave the message back."""

from msgbus.brokers.sqs.attempts import Attempts


def test_it_goes_on_where_it_was() -> None:
    attempts = Attempts()
    assert attempts.of("m") == 1
    attempts.remember("m", 3)
    assert (attempts.of("m"), attempts.of("m"), attempts.of("n")) == (3, 3, 1)
    attempts.forget("m")
    attempts.forget("m")
    assert attempts.of("m") == 1


def test_a_release_of_what_was_never_tried_is_not_kept() -> None:
    attempts = Attempts()
    attempts.remember("m", 4)
    attempts.remember("m", 1)
    assert attempts.of("m") == 1


def test_the_oldest_are_forgotten() -> None:
    attempts = Attempts(most=2)
    for name in ("a", "b", "a", "c"):  # a is younger than b by then
        attempts.remember(name, 2)
    assert [attempts.of(name) for name in ("a", "b", "c")] == [2, 1, 2]
