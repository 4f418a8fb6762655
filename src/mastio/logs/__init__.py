"""The machines' logs as watch keeps them: reading, sealing, signs of life.

| module | where it runs | what it does |
|---|---|---|
| reader | sent to watch | finds lines: by machine, time, words; follows; all that belongs to one message |
| client | the administrator's side | asks the reader |
| chain | both | what a seal is, and whether a chain of them fits what is on disk |
| life | watch | what signs of life say: silence, lost lines, clocks |

A line is `ARRIVED MACHINE WRITTEN FACILITY.SEVERITY TAG: TEXT`; both times are RFC 3339.
"""
