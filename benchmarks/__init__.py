"""What `make bench` runs: each figure measured here and now, printed beside its bound and beside what others reach at the same.

`python -m benchmarks [NAME…] [--quick] [--output FILE]`. Linux only: it reads `/proc` and pins processes to cores; each report says what
was pinned where. The disk that is measured is the one of the temporary folder (`TMPDIR`).

A benchmark opens a stage of its own: gateway and simulator are processes, fresh each time, and only the clients run in this one (the
queue's cost aside, which is pure). Whether a limit was kept is told by the simulator's arrivals, never by the gateway; each answer must be
exactly the call's order, and each call must have arrived once, or the benchmark says so as a figure of its own. The limiters that we are
compared with are installed into `.peers`; nginx is used where the system has it.
"""
