"""Chinese words and characters."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.chinese import chinese_f1


def test_words_or_characters_without_marks() -> None:
    assert chinese_f1("会议，周三！", ["会议周三"]) == 1
    assert chinese_f1("周三", ["周四"], characters=True) == 0.5
    assert chinese_f1("上海", ["北京"]) == 0


def test_both_marks_of_a_title_are_left_out_but_not_by_the_published_list() -> None:
    assert chinese_f1("《红楼梦》", ["红楼梦"], characters=True) == 1
    released = chinese_f1("《红楼梦》", ["红楼梦"], characters=True, compat=True)
    assert released == pytest.approx(6 / 7)


def test_texts_without_words() -> None:
    assert chinese_f1("。", ["！"]) == 1
    assert chinese_f1("。", ["！"], compat=True) == 0
