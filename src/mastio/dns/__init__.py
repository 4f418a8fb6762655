"""What a site publishes in DNS, computed from the site file and the vault.

| module | what |
|---|---|
| `records` | one record, and the builders of each kind |
| `rings` | the generations of a domain's DKIM keys, and their rotation without a gap |
| `sts` | the MTA-STS policy of a domain (RFC 8461) |
| `zone` | site + vault → all records, with the reason of each |
| `text` | records → a zone file that a person reads and pastes |
| `forms` | the same for nsupdate(1), and for a registrar's web page |
| `check` | records against what DNS answers |
| `ask` | the look-up itself; runs on whichever machine has the resolver |

All but `ask` is pure. The lab's internet publishes the very same records.
"""
