"""The site at a glance: one look at every machine, and what watch found by itself.

    probes.glance.now, asked of every machine ──▶ judge ──▶ Glance ──▶ text, JSON, or Prometheus's metrics

Nothing is measured here that a check does not measure better; this is what somebody looks at first.
"""
