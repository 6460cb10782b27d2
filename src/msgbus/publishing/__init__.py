"""From a payload to the broker. In the order in which a message meets them:

- `port`: the open bus, as its verbs and those of its routers see it
- `outlet`: one topic, queue or call as its publisher sees it; makes the message
- `payloads`: the codec for the payload's class
- `checks`: what is given beside the payload
- `ids`: the message's id and time
- `middleware`: what a service puts around the wire
- `deadline`: how long its caller waits
- `link`: one broker's connection; connects again, and says when sending again is worth it
- `batcher`: gathers what many tasks send, and sends again what failed and nothing else
- `chunks`: the entries of one call on their way through the batcher
"""
