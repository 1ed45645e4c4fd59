"""A strict stand-in for the Flxpoint API, for staging, demos and tests.

`app.create_simulator` makes it for some `tokens.SimulatedToken`s; `protocol.server_config` serves it on real sockets.
"""
