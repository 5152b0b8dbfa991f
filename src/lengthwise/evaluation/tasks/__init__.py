"""Tasks: what a model is asked, made from a seed or from a document.

    questions.build_prompt   questions about one document, which share its tokens
    probes.probe_context     a copied list and needles, planted in the user's document
    shelf_text.shelf_text    one context with both, and how the document goes on
    lines.fitted_case        a record of lines that look alike, and a question for one
    document_qa              questions whose answer stands in a document, or was altered in it
    dialogues                grocery, game and talk; dialogue_tables holds their words
    work.prompts             seven kinds of work, as prompts of a chosen length

A task is data: token ids or messages, and the right answer. It runs no model. Who runs it is
`compare/`, or a check under benchmarks; who scores it is `metrics/`, or the task's own `right`.
"""
