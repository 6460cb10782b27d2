"""From the broker to the settlement. In the order in which a message meets them:

- `sharing`: who begins to consume a second time shares what runs
- `runner`: keeps one subscription open, receiver after receiver
- `session`: one open receiver at work; starts and stops all of the following
- `intake`: asks the receiver for as much as there is room for (`flow`: window, rate, breaker)
- `suspicion`: notices what may kill its process, so that it is tried alone
- `fate`: where each delivery is between its receipt and its settlement; what waits behind others of its key
- `workers`, `worker`, `batches`: run the handlers
- `heartbeat`: keeps the leases meanwhile
- `policy`: decides what becomes of a failure (`chatter`: how much of it is logged)
- `settler`: hands settlements to the receiver in batches, and reads each result
- `results`: what the result of a settlement means
- `blocking`: notices a handler that blocks the event loop
- `life`: how the subscription is doing
- `counts`, `rest`: what it did and holds, in numbers, and when that is nothing
- `health`: what probes and metrics should know of it all
"""
