"""What watch does by itself. It runs there, with Debian's Python and nothing from the vault."""
