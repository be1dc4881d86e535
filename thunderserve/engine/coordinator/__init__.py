"""The coordinator: takes requests, finds each a way through the workers, and sees to it that the answer comes to its end.

``coordinator`` is the ``Engine`` of the front; ``dispatch`` gives requests to workers and hears what becomes of them; ``routing``
chooses among the flows, by the router of the simulator; ``listener`` holds the lines to the workers. A ``request`` has one
``attempt`` after another, at ``peer`` workers; ``history`` keeps what happened, as records; ``gauges`` are for whoever watches.
No torch.
"""
