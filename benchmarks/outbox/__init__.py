"""What the outbox costs, each figure beside its raw twin: the same statements by hand, with nothing around them."""
