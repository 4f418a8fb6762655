"""The roles, one folder each: `build(ctx) -> HostState` and the templates beside it.

Roles never import each other; what every machine has is `common`. `BUILDERS` is the whole registry.
"""
