"""From a decorator to something that can be called. In the order in which a handler meets them:

- `decorators`: what type checkers hold the user's function against
- `binding`: reads the signature of the user's function (`dependencies`: what its other parameters depend on)
- `registration`: one decorated handler, and what is refused when it is declared
- `topology`: what must exist on the broker, and what is refused because the broker can't do it
- `subscription`: all that a session must know, made of the handlers that share it (`stats`: what is counted of it)
- `handling`: what runs for a delivery: decode, choose, call
- `decoding`: from bytes to the declared payload
- `middleware`, `fetching`: what stands around that
- `lifespan`: what the bus's lifespan yields, for those who depend on it
- `threads`: where it runs if it is a plain function
- `context`: the context variables that the function runs in
"""
