"""A passage of prose, and turns of a chat around it, in the template of the embedded model."""

HEAD = "<|im_start|>user\n"
NEXT = "<|im_end|>\n<|im_start|>assistant\n"
ASK = "<|im_end|>\n<|im_start|>user\n"
QUESTION = "What did the lighthouse keeper do? Quote the text."
ANSWER = 'The text says: "The lighthouse'
PASSAGE = (
    "The lighthouse keeper wrote every evening in a thick green book. He noted the wind, the "
    "height of the waves, and the names of the ships that passed. On the third of March he "
    "counted eleven ships before noon, more than in the whole of February. In the afternoon a fog "
    "came up from the south, and he rang the bell until his arms were tired. Nobody answered. At "
    "midnight the fog lifted, and a small boat with a red sail lay on the stones below the tower."
)
