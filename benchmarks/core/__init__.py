"""What a message costs in the core, beside the floor and other frameworks. Run: make bench-core."""
