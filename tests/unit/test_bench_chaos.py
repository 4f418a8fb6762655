"""The books of chaos find what is lost, astray and there twice; and nothing where all is well."""

import pytest
from bench.faults import Done, Fault, plan
from bench.ledger import Copy, Promise, hops, judge

BOX = "a@fortress.test"
MX, STORE = "mx.fortress.test", "store.lab.internal"


def promise(
    number: int, code: int = 250, unsure: int = 0, late: int = 0, first: str = "gateway"
) -> Promise:
    return Promise(number, BOX, first, code, "", 1, unsure, late)


def copy(number: int, gateway: str = "G", store: str = "S", box: str = BOX, folder: str = "INBOX",
         at: float = 100) -> Copy:  # fmt: skip
    return Copy(number, box, folder, ((MX, gateway), (STORE, store)), at)


def done(kind: str = "power", target: str = "store", began: float = 90, ended: float = 99) -> Done:
    return Done(Fault(0, kind, target, 5), began, ended)


NAMES = {MX: "gateway"}
WAITING = {"store": "gateway", "gateway": "store"}


def test_all_is_well() -> None:
    found = judge([promise(1), promise(2)], [copy(1), copy(2)], [], WAITING)
    assert found.good and (found.promised, found.twins) == (2, ())


def test_what_is_nowhere_is_lost() -> None:
    found = judge([promise(1), promise(2)], [copy(1)], [], WAITING)
    assert found.lost == (2,) and not found.good


def test_what_is_in_a_queue_is_late_and_not_lost() -> None:
    found = judge([promise(1), promise(2)], [], [], WAITING, frozenset({2}))
    assert (found.lost, found.waiting) == ((1,), (2,)) and not found.good


def test_nobody_may_be_refused() -> None:
    found = judge([promise(1, 550)], [], [], WAITING)
    assert found.refused and not found.lost and not found.good


@pytest.mark.parametrize("place", [{"box": "b@fortress.test"}, {"folder": "Junk"}])
def test_it_must_be_where_it_belongs(place: dict[str, str]) -> None:
    found = judge([promise(1)], [copy(1, **place)], [], WAITING)
    assert found.astray and not found.good


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ([done()], "store: no power for 5.0 s"),
        ([done(target="gateway")], "gateway: no power for 5.0 s"),
        ([done(kind="cut", target="core")], "zone core: cut off for 5.0 s"),
        ([done(target="webmail")], ""),
        ([done(began=10, ended=20)], ""),
        ([done(began=200, ended=220)], ""),
        ([], ""),
    ],
)
def test_twice_at_the_store_needs_a_reason_there_and_then(faults: list[Done], why: str) -> None:
    twice = [copy(1), copy(1, store="T", at=130)]
    (twin,) = judge([promise(1)], twice, faults, WAITING).twins
    assert (twin.hop, twin.why) == (STORE, why)


def test_a_sender_who_had_his_answer_sends_once() -> None:
    twice = [copy(1, gateway="G"), copy(1, gateway="H")]
    faults = [done(target="gateway")]
    assert judge([promise(1, unsure=1)], twice, faults, WAITING, names=NAMES).good
    assert judge([promise(1)], twice, faults, WAITING, names=NAMES).unexplained


def test_a_sender_who_does_not_wait_sends_twice() -> None:
    twice = [copy(1, gateway="G"), copy(1, gateway="H")]
    found = judge([promise(1, unsure=1, late=1)], twice, [], WAITING, names=NAMES)
    assert found.good and "did not wait" in found.twins[0].why
    assert judge([promise(1, unsure=1)], twice, [], WAITING, names=NAMES).unexplained
    twice = [copy(1), copy(1, store="T")]
    assert judge([promise(1, unsure=1, late=1)], twice, [], WAITING, names=NAMES).unexplained


def test_what_a_user_submits_was_at_the_store_before_the_first_hop_that_it_tells() -> None:
    twice = [copy(1, gateway="G"), copy(1, gateway="H")]
    own = promise(1, first="store")
    assert judge([own], twice, [done(target="store")], WAITING, names=NAMES).good
    assert judge([own], twice, [done(target="watch")], WAITING, names=NAMES).unexplained


def test_hops_are_read_from_the_first_on() -> None:
    head = (
        "Received: from gw by store with LMTP id Ab1+x/Y\n\tfor <a@x>; now\n"
        "Subject: by nobody id 7\nReceived: from mx.a by mx.b\n\twith ESMTP id 42; then"
    )
    assert hops(head) == (("mx.b", "42"), ("store", "Ab1"))


def test_a_plan_follows_from_its_seed_and_leaves_nothing_out() -> None:
    machines, daemons, zones = ["store", "gateway"], [("store", "dovecot.service")], ["core"]
    one, same, other = (plan(seed, 60, machines, daemons, zones, 2) for seed in (1, 1, 2))
    assert one == same != other
    kinds = sorted((it.kind, it.target) for it in one)
    assert kinds == sorted([
        ("power", "store"), ("power", "gateway"), ("kill", "store"), ("cut", "core"), ("bad", "core"),
    ] * 2)  # fmt: skip
    assert [it.at for it in one] == sorted(it.at for it in one) and one[-1].at < 60
