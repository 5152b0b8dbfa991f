"""Reading documents: the text of a file, whole and unchanged, or one line that says why not.

    folders.read            one Document of a path, of several, of a folder
      files.read_document   one file; None is Python's own language reference
        formats.sniff       which kind of file it is, by its first bytes
        formats.text_of     PDF, Word (word_text), HTML (html_text), plain text
          encodings.decode  bytes to text, without a guess
    prompt_files.read_prompts   a user's own prompts, one JSON object a line
    json_lines.json_lines       published cases, which `tasks/` reads

What flows is bytes, then text, then a `document.Document`. Nothing is cut here.
"""
