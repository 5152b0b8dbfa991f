"""From documents to training sequences: read, tokenise once, order, build, store.

    files --records--> documents --tokenise--> token store --orders, plan--> parts
          --builders--> rows --shards--> Parquet --store, loader--> batches of a training step

Everything but the tokens themselves is worked out on (start, length) pairs, so that a corpus larger
than the memory costs no more of it than a small one.
"""
