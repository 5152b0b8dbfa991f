"""Recipes of every kind of cache, which drafting must leave the text of."""

RECIPES = [
    "full",
    "streaming(sinks=2, window=24)",
    "snapkv(budget=50%, window=8, floor=8)",
    "h2o(budget=24)",
    "think(ratio=0.5, recent=8, window=8)",
    "kivi(bits=4, group=8, residual=16)",
    "infllm(budget=32, window=16, block=4, init=2)",
    "token_select(budget=32, window=16, init=2)",
    "duo(sinks=2, recent=24)",
    "longgen(sinks=2, window=24)",
    "lserve(budget=32, sinks=2, recent=16, window=8, page=4, subpage=2)",
    "squeezed(removed=0.6, clusters=0.25, coarse=0.1, window=8)",
    "minference(pattern=vertical_slash, columns=4, distances=4, first=1, nearest=2, block=4)",
    "yarn(factor=2)",
    "lm_infinite(window=24)",
]
