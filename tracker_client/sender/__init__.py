"""The process beside training that sends journals to the server, and deletes what has arrived."""
