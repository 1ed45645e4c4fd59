"""What `make bench` runs: each figure measured here and now, printed beside its bound.

`python -m benchmarks [NAME…] [--quick] [--output FILE]`. Linux only: it reads `/proc` and pins processes to cores. The disk that is measured
is the one of the temporary folder (`TMPDIR`).

The house on which all of it is played, gateway and simulator included, consists of processes of their own; only the clients run in this one.
"""
