"""Law of errors: whatever an error says, it becomes one line."""

import pytest

from lstmq.errors import QuantizationError, one_line, prefix_errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("expected 2,\n  found 3"), "expected 2, found 3"),
        (QuantizationError("nothing to quantize"), "nothing to quantize"),
        (FileNotFoundError("no such folder"), "no such folder"),
        (KeyError("size"), "KeyError: 'size'"),
        (RuntimeError("first\n\nsecond"), "RuntimeError: first second"),
        (ValueError(), "ValueError"),
    ],
)
def test_one_line_names_the_type_unless_the_message_says_enough(error, line):
    assert one_line(error) == line


def test_prefix_errors_replaces_an_error_by_one_that_names_the_file():
    message = r"^model.onnx: KeyError: 'size'$"
    with pytest.raises(QuantizationError, match=message), prefix_errors("model.onnx", KeyError, QuantizationError):
        raise KeyError("size")


def test_prefix_errors_does_not_touch_other_errors():
    with pytest.raises(OSError, match=r"^no such file$"), prefix_errors("model.onnx"):
        raise OSError("no such file")
