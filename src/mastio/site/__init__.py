"""The site file and what it means: `model` is the data, `parse` reads it, `write` makes a new one."""
