"""What `make bench` runs: each figure measured here and now, printed beside its bound.

`python -m benchmarks [NAME…] [--quick] [--output FILE]`. Linux only: it reads `/proc` and pins processes to cores.
The disk that is measured is the one of the temporary folder (`TMPDIR`).

Gateway, simulator and the bare route it is compared with are processes of their own; only the clients run in this one.
"""
