"""The inner loops of linear probes on a processor, compiled by numba: what PyTorch does in many small operations.

A step of ``adam`` on one clip reads 0.3 MB, and PyTorch spends more time on starting some 25 operations than on the
numbers. The formulas are those of objective.py, pooling.py and adam.py, which a GPU follows; arithmetic is float32.
What numba compiles it keeps on disk, so that only the first use of all has to wait for it.

    records.py   the arrays that go in
    single.py    one probe: rows are converted from float16 in registers, for the scores and again for the gradient
    several.py   K probes: rows are converted once, then multiplied with the weights of all
    crew.py      two threads at the rows of one clip
    fetching.py  the rows of a clip, in memory or from a file
    pools.py, steps.py, products.py, machine.py   what these are made of
"""
