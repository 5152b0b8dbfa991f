"""Small helpers that any room may use. They import nothing of lengthwise but its errors."""
