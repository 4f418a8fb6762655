"""Looks names up, here or on another machine: a program of its own, dnspython and nothing of mastio.

    ask(["mx.fortress.test", "A"], …)   here
    python3 -I -                        there, with `program(…)` on its standard input

It asks for DNSSEC and reports the AD bit: whether the resolver has validated the answer.
"""

import inspect
import json
from collections.abc import Iterable
from typing import Any


def ask(questions: list[list[str]], resolver: str, patience: float) -> list[dict[str, Any]]:
    """The answer to each [name, type]: data, secure, failure. `resolver` is an address, "" the system's.

    Raises OSError when no resolver answers anything; `patience` is in seconds, for each question.
    """
    from concurrent.futures import ThreadPoolExecutor

    import dns.exception
    import dns.flags
    import dns.resolver

    try:
        asked = dns.resolver.Resolver(configure=not resolver)
    except dns.exception.DNSException as error:
        raise OSError(f"no resolver: {error}") from None
    if resolver:
        asked.nameservers = [resolver]
    asked.lifetime = patience
    asked.use_edns(0, dns.flags.DO, 1232)
    asked.flags = dns.flags.RD | dns.flags.AD

    def one(question: list[str]) -> dict[str, Any]:
        name, kind = question
        try:
            found = asked.resolve(f"{name}.", kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return {"data": [], "secure": False, "failure": ""}
        except dns.resolver.NoNameservers:
            return {"data": [], "secure": False, "failure": "the resolver fails (SERVFAIL)"}
        except dns.exception.Timeout:
            return {"data": [], "secure": False, "failure": "no answer in time"}
        return {
            "data": [it.to_text() for it in found.rrset or ()],
            "secure": bool(found.response.flags & dns.flags.AD),
            "failure": "",
        }

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, questions))
    if questions and all(it["failure"] == "no answer in time" for it in answers):
        raise OSError(f"no answer from {', '.join(map(str, asked.nameservers))}")
    return answers


def program(questions: Iterable[tuple[str, str]], resolver: str, patience: float) -> str:
    """Python source that prints the answers as JSON."""
    request = json.dumps([[list(it) for it in questions], resolver, patience])
    return (
        "from __future__ import annotations\nimport json, sys\nfrom typing import Any\n"
        f"{inspect.getsource(ask)}\n"
        "try:\n"
        f"    answer = ask(*json.loads({request!r}))\n"
        "except OSError as error:\n"
        "    sys.exit(str(error))\n"
        "json.dump(answer, sys.stdout)\n"
    )
