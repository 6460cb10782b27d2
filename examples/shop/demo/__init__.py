"""The shop at work: traffic, failures, a restart, a redrive; watched, counted and checked."""
