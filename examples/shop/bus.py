"""The shop's bus. The services publish with it; app.py gives it their handlers."""

from examples.shop import observe

from msgbus import Bus

bus = Bus(
    middlewares=[observe.around_handler],
    publish_middlewares=[observe.around_send],
    on_dead=[observe.after_death],
)
