"""The schema's history. Applied by `tracker_server migrate`, and by `tracker_server up` on the embedded form."""
