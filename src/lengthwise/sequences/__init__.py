"""From documents to training sequences: read, tokenise once, order, build, store.

    documents --> encoder --> token_store --> orders, icp --> builders/ --> shards --> store
    (records, tables, folders)    (tokenise)                    (rows)                   |
                                                     trainer <-- loader, collate <-- curricula

`build` runs the pipeline and goes on where it was stopped. `engines` says who works: this process
or a Ray cluster. Everything but the tokens themselves is worked out on (start, length) pairs, so
that a corpus larger than the memory costs no more of it than a small one.
"""
