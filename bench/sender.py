"""A sending MTA in one function that needs nothing but Python: it is sent to a lab machine as source.

`send` keeps a queue as an MTA does: what was deferred (4xx), or whose connection broke before an
answer, waits and is tried again, and the other messages meanwhile go on. One message a connection,
as strangers send. Times are CLOCK_MONOTONIC, one clock for all machines of a lab on one box.
"""

from typing import Any


def send(address: str, port: int, source: str, name: str, mails: list[Any], sessions: int,
         waits: list[float], pace: float = 0) -> dict[str, Any]:  # fmt: skip
    """Send `mails`, each [sender, recipient, text], over `sessions` connections at a time.

    They set out `pace` seconds one after the other.
    `waits` are the seconds before the second, third … try; after the last a message counts as given
    up, with the last answer. Returns when it began and ended, and for each mail the code (0: nobody
    answered) and text of its last reply, its number of tries and when it was over.
    """
    import asyncio
    import time

    mx = (address, port)
    outcomes: list[Any] = [None] * len(mails)

    async def attempt(number: int) -> tuple[int, str]:
        sender, recipient, text = mails[number]
        reader, writer = await asyncio.open_connection(*mx, local_addr=(source, 0))

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
            reply = await answer()
            for line in (f"EHLO {name}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
                if reply[0] >= 400:
                    return reply
                writer.write(f"{line}\r\n".encode())
                reply = await answer()
            if reply[0] == 354:
                writer.write(content.encode("latin-1"))
                reply = await answer()
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
                    code, text = await asyncio.wait_for(attempt(number), 90)
                except (TimeoutError, OSError, ValueError) as error:
                    code, text = 0, repr(error)
                again = code < 200 or 400 <= code < 500
                if again and tries[number] <= len(waits):
                    loop.call_later(waits[tries[number] - 1], queue.put_nowait, number)
                    continue
                outcomes[number] = [code, text, tries[number], time.monotonic()]
                left -= 1
                if not left:
                    done.set()

        for number in range(len(mails)):
            loop.call_later(number * pace, queue.put_nowait, number)
        workers = [asyncio.create_task(work()) for _ in range(sessions)]
        await done.wait()
        for worker in workers:
            worker.cancel()

    began = time.monotonic()
    asyncio.run(everything())
    return {"began": began, "ended": time.monotonic(), "outcomes": outcomes}
