"""What a process has logged, on disk: appended by the process itself, read and deleted by the sender."""
