"""The Python face: a model that is held, what is asked of it, and what comes out.

loading.load, loading.wrap    a `Model`
  Model.generate, .stream     one prompt (prompts, given: what was asked, in which form)
  asking.open_batch           many of them, each row with a recipe of its own
    batch.Batch               opens requests of the engine and steps them
  generation, streams         what comes out, whole or piece by piece, also for asyncio
hf_generate                   the same behind `generate` of transformers
support                       what a model supports, method by method (`lengthwise check`)
"""
