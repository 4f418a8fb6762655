"""Probes: standard-library modules whose functions run on the machines of the site, or outside.

A module here is sent whole, so it imports nothing of mastio. Its functions take and give what JSON
can carry, and raise OSError or ValueError with words for a person when they could not look.
"""
