"""Findings and plans as text, JSON and HTML. Pure: the command line prints."""
