"""What the server must hold under fire: one file a scenario.

Each has `run(options)`, which returns rows of figures (report.Row), and is run
at full length by tests/bench/fire and in a short form by http/test_fire.py. What
is counted is asserted there; what is timed is only shown, since it belongs to a
machine.
"""
