"""Data: from two domains to batches. Labels that were not granted go no further than the evaluation parts.

`datasets` reads domains, `split_domain` splits and fits one, `domain` makes a pair of two, `transforms` turns rows into
inputs and `streams` turns a pair's parts into batches. `files`, `augment`, `cache` and `made` are what these use.
"""
