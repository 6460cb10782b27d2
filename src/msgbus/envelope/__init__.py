"""A message's form on the wire. In the order in which a message meets them:

- `claim`: a body that is too large travels by way of a store
- `fitting`: fits headers and body to what the broker can carry
- `structured`: both in one CloudEvents JSON object, where a broker has no headers; and back
- `opening`: undoes what fitting did
- `foreign`: undoes what others did: `compression`, and CloudEvents in forms that we don't write
- `text`: what is text and what is JSON
"""
