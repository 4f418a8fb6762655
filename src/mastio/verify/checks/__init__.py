"""The checks, a file for each family; `mastio.verify.registry` puts them together."""
