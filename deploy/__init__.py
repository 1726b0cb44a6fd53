"""Everything that puts the tracker on a machine: its servers, the whole stack, containers."""
