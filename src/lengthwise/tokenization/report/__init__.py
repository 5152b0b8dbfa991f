"""What tokenizers do to texts, side by side: length, languages, vocabulary, digits, code, faults.

from lengthwise.tokenization.opening import open_tokenizer
from lengthwise.tokenization.report import Question, report

both = [open_tokenizer("o200k_base"), open_tokenizer()]
found = report(both, Question([lengthwise.read("x.txt")]))
found.tokenizers[0].text.bytes_per_token
"""

from lengthwise.tokenization.report.making import Question, Report, TokenizerReport, report
from lengthwise.tokenization.report.parallel import Parallel, read_parallel

__all__ = ["Parallel", "Question", "Report", "TokenizerReport", "read_parallel", "report"]
