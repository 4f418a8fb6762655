"""`python -m mastio`."""

from mastio.cli.main import main

main()
