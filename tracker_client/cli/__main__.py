"""`python -m tracker_client.cli`."""

from tracker_client.cli import main

main()
