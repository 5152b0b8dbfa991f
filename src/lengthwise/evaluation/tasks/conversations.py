"""Five conversations about a text, whose last turn asks for a variation of an earlier answer.

Turns alternate, the user's first and last; {text} is where the text goes. The answers are fixed, so
that every model and every recipe continues the same conversation.
"""

from __future__ import annotations

_READ = "Read this part of the Python reference.\n\n{text}\n\n"

CHECKLIST = (
    _READ + "What happens to an exception that nobody handles?",
    "The interpreter ends the program, or returns to its interactive main loop. In either case it "
    "prints a stack traceback, except when the exception is SystemExit.",
    "Write a checklist for a reviewer of error handling in Python code.",
    "1. Every except clause names the class of the exception that it expects.\n"
    "2. A clause for a base class comes after the clauses for its subclasses.\n"
    "3. Clean-up code stands in a finally clause or in a with statement.\n"
    "4. No program depends on the text of an exception's message.\n"
    "5. A handler that cannot mend the error raises it again.",
    "Write the checklist again for somebody who has just begun to learn Python: keep the numbers, "
    "explain each point in one more sentence, and add a sixth point.",
)

EMAIL = (
    _READ + "Are objects destroyed explicitly?",
    "No. They may be garbage-collected when they become unreachable, and an implementation may "
    "postpone that or leave it out altogether.",
    "Write a short email to my team: they should close their files explicitly.",
    "Subject: Please close your files\n\nDear all,\n\nan open file is an external resource. It is "
    "freed when the file object is garbage-collected, but nobody promises when that happens, or "
    "that it happens at all. Please close every file explicitly, best by opening it in a with "
    "statement. If that is not possible, call close() in a finally clause.\n\nThank you,\nAlex",
    "Write the same email again, about network connections instead of files, and sign it as Sam.",
)

TIMER = (
    _READ + "Which methods must a class have for the with statement?",
    "Two: __enter__(), whose value is bound to the target of the as clause, and __exit__(), which "
    "receives the exception that ended the block, or None three times.",
    "Show me a class that measures the time of a block.",
    "```python\n"
    "import time\n"
    "\n"
    "\n"
    "class Timer:\n"
    '    """Measures the seconds that a block takes."""\n'
    "\n"
    "    def __enter__(self):\n"
    "        self.start = time.perf_counter()\n"
    "        return self\n"
    "\n"
    "    def __exit__(self, exc_type, exc_value, traceback):\n"
    "        self.seconds = time.perf_counter() - self.start\n"
    '        print(f"The block took {self.seconds:.3f} seconds")\n'
    "        return False\n"
    "```",
    "Give the class a constructor that takes a name for the block, print that name too, and show "
    "me the whole class again.",
)

QUIZ = (
    _READ + "What is a block?",
    "A piece of the program text that is executed as a unit: a module, a function body, a class "
    "definition, and each command that is typed interactively.",
    "Write three quiz questions about scopes, with answers.",
    "1. Which names does a function body see?\n"
    "   Its own, those of the functions around it, the module's, and the built-in ones.\n"
    "2. What does an assignment in a function do?\n"
    "   It binds a local name, unless the name was declared global or nonlocal.\n"
    "3. Which error does a local name give that has no value yet?\n"
    "   UnboundLocalError, a subclass of NameError.",
    "Write the quiz again with three wrong choices beside each right answer, and mark the right "
    "one with a star.",
)

POST = (
    _READ + "In which order are the arguments of a call evaluated?",
    "All argument expressions are evaluated before the call is attempted.",
    "Write a short forum post that explains keyword arguments.",
    "Hello everybody,\n\na keyword argument is given by name, as in f(x=1). It fills the parameter "
    "of that name, wherever it stands in the list. A name that no parameter has is a TypeError, "
    "unless the function collects such names with **kwargs. Positional arguments come first.\n\n"
    "Have fun,\nRobin",
    "Write the post again for people who know another language, keep its order, and add a "
    "paragraph on what *args collects.",
)
