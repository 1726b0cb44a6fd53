"""`python -m tracker_server`."""

from tracker_server.cli import main

main()
