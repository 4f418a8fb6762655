"""A sending MTA in one function that needs nothing but Python: it is sent to a lab machine as source.

`send` keeps a queue as an MTA does: what was deferred (4xx), or whose connection broke before an
answer, waits and is tried again, and the other messages meanwhile go on. One message a connection,
as strangers send. Times are CLOCK_MONOTONIC, one clock for all machines of a lab on one box.

With `tls` and `password` it is a mail program that submits: TLS from the first octet, AUTH PLAIN as the
envelope sender. With `tell` each step that counts is a line of JSON on stdout as it happens, so that whoever
listens knows where each message was when this machine dies:

    ["dot", 7]                           all of message 7 was sent, its answer is awaited
    ["late", 7]                          the answer did not come in time: it was given up
    ["end", 7, 250, "2.0.0 Ok …", 2, 81.5]    the last answer, the number of tries, when
"""

from typing import Any


def send(address: str, port: int, source: str, name: str, mails: list[Any], sessions: int,
         waits: list[float], pace: float = 0, tls: list[str] | None = None, password: str = "",
         patience: float = 90, tell: bool = False, until: float = 0) -> dict[str, Any]:  # fmt: skip
    """Send `mails`, each [sender, recipient, text], over `sessions` connections at a time.

    They set out `pace` seconds one after the other, or each at the time that stands fourth in it. `source` may be
    empty: any address. `tls`: the file with the authority, and the server's name. A try takes at most `patience`
    seconds; after `until` none is made.
    `waits` are the seconds before the second, third … try; after the last a message counts as given
    up, with the last answer. Returns when it began and ended, and for each mail the code (0: nobody
    answered) and text of its last reply, its number of tries and when it was over; and of each try that
    was in vain, when and why.
    """
    import asyncio
    import base64
    import json
    import ssl
    import time

    outcomes: list[Any] = [None] * len(mails)
    vain: list[Any] = []
    waiting: set[int] = set()  # messages of which all was sent
    way: dict[str, Any] = {"host": address, "port": port}
    if source:
        way["local_addr"] = (source, 0)
    if tls:
        way |= {"ssl": ssl.create_default_context(cafile=tls[0]), "server_hostname": tls[1]}

    def say(*words: Any) -> None:
        if tell:
            print(json.dumps(words), flush=True)

    async def attempt(number: int) -> tuple[int, str]:
        sender, recipient, text = mails[number][:3]
        reader, writer = await asyncio.open_connection(**way)

        async def answer() -> tuple[int, str]:
            while True:
                line = (await reader.readline()).decode(errors="replace").rstrip()
                if len(line) < 3:
                    raise ConnectionError("the connection broke")
                if line[3:4] != "-":
                    return int(line[:3]), line[4:]

        try:
            body = "\r\n".join(text.replace("\r\n", "\n").split("\n"))
            stuffed = ("\r\n" + body).replace("\r\n.", "\r\n..")[2:]
            content = stuffed.removesuffix("\r\n") + "\r\n.\r\n"
            login = base64.b64encode(f"\0{sender}\0{password}".encode()).decode()
            reply = await answer()
            for line in (
                f"EHLO {name}", *([f"AUTH PLAIN {login}"] if password else []),
                f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA",
            ):  # fmt: skip
                if reply[0] >= 400:
                    return reply
                writer.write(f"{line}\r\n".encode())
                reply = await answer()
            if reply[0] == 354:
                writer.write(content.encode("latin-1"))
                say("dot", number)
                waiting.add(number)
                reply = await answer()
                waiting.discard(number)
                writer.write(b"QUIT\r\n")
            return reply
        finally:
            writer.close()

    async def everything() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        tries = [0] * len(mails)
        left = len(mails)
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def work() -> None:
            nonlocal left
            while True:
                number = await queue.get()
                tries[number] += 1
                try:
                    code, text = await asyncio.wait_for(attempt(number), patience)
                except (TimeoutError, OSError, ValueError) as error:
                    code, text = 0, repr(error)
                    if number in waiting and isinstance(error, TimeoutError):
                        say("late", number)
                    waiting.discard(number)
                again = code < 200 or 400 <= code < 500
                # A person whose password is right tries again: an authenticator that dies is told as a 535.
                again = again or (bool(password) and code == 535)
                if again and tries[number] <= len(waits) and time.monotonic() < (until or 1e18):
                    vain.append([time.monotonic(), f"{code} {text}"])
                    loop.call_later(waits[tries[number] - 1], queue.put_nowait, number)
                    continue
                outcomes[number] = [code, text, tries[number], time.monotonic()]
                say("end", number, *outcomes[number])
                left -= 1
                if not left:
                    done.set()

        for number, mail in enumerate(mails):
            due = mail[3] if len(mail) > 3 else began + number * pace
            loop.call_later(max(0.0, due - time.monotonic()), queue.put_nowait, number)
        workers = [asyncio.create_task(work()) for _ in range(sessions)]
        await done.wait()
        for worker in workers:
            worker.cancel()

    began = time.monotonic()
    asyncio.run(everything())
    return {"began": began, "ended": time.monotonic(), "outcomes": outcomes, "vain": vain}
