"""The digest: what all machines' log lines say about a day, in constant memory, each line read once.

    /var/log/remote/<machine>/<day>.log ──Reader──▶ Tally ──▶ Summary of an hour ──merge──▶ a day ──▶ judge

| file | what |
|---|---|
| `summary.py` | a summary: counts, the biggest of many names, histograms of times, news; what merges |
| `lines.py` | blocks of lines of one machine → tallies by hour; what a reader remembers between blocks |
| `postfix.py`, `others.py` | what a line of each program counts for |
| `origins.py` | from where people log in |
| `losses.py` | lines that a machine itself threw away |
| `reasons.py` | why a message was refused, in an administrator's words |
| `shapes.py` | lines of a shape that was never seen before |
| `keeping.py` | summaries and memory on disk, read by file and offset |
| `judge.py` | whether something needs a person |

No line raises: what cannot be read is counted as such.
"""
