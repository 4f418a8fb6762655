"""What other organisations report of our mail: DMARC aggregates (RFC 9990) and TLS failures (RFC 8460).

| module | what |
|---|---|
| `read` | a message with a report → data; the program that Postfix on the store hands it to |
| `summary` | all reports → what an administrator wants to know |

Reports come from strangers: everything in them is a claim. `verified` says that the message at least
came from the domain that it names (DMARC, checked by the gateway).
"""
