"""Avro: schemas from message types, and codecs compiled for a writer's and a reader's schema.

`schema`: the tree that a schema is, its JSON, canonical form and fingerprint. `parsing`: an .avsc becomes one.
`members`: the fields of a class. `deriving`: a message type becomes a schema. `code`: source that is generated.
`values`: what it calls. `writing`: functions that write. `resolving`: what a schema that was written is read as.
`reading`: functions that read. `codec`: `Avro`, for a topic.
"""
