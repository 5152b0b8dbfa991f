"""A model for many callers at once: an engine that writes their texts together, over HTTP.


    request --reading, protocol--> what is asked --asks--> Ask --engine--> Piece
       pieces --mailbox, call--> answers --responses--> JSON or server-sent events

`engine` is the thread that runs the model, `scheduler` what it does in a round; they know nothing
of HTTP. `app` puts the routes together, `guard` stands before them, and `http_server` runs them.
`batch_run` runs a file of requests, whose plan is `batch_plan`.
"""
