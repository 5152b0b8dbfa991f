"""Prompting: what enters the context.

    documents, question --write_prompt--> passages and a question --> what is read

The contract stands in `methods.prompts`. Methods see text, and so run before any model, ours or one
behind an API; those that look at probabilities say so by name.
"""
