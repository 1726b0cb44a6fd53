"""One module for each tracker: what runs in its own virtual environment, with its own client."""
