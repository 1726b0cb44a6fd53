"""What a run is and how writes change it: pure functions and frozen data, no I/O. Every change commutes."""
