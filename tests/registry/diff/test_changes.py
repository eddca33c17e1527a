from __future__ import annotations

from registry.diff import Change, changes


def test_nested_keys_are_dotted_and_equal_ones_left_out() -> None:
    before = {"train": {"lr": 1e-4, "epochs": 3}, "targets": ["q"], "old": 1, "same": {}}
    after = {"train": {"lr": 2e-4, "epochs": 3}, "targets": ["q", "v"], "new": {"x": "y"}}
    assert changes({**before, "same": 0}, {**after, "same": 0}) == (
        Change("new.x", None, "y"),
        Change("old", 1, None),
        Change("targets", ["q"], ["q", "v"]),
        Change("train.lr", 1e-4, 2e-4),
    )


def test_true_is_not_one() -> None:
    assert changes({"use_rslora": True}, {"use_rslora": 1}) == (Change("use_rslora", True, 1),)


def test_only_numbers_have_a_step() -> None:
    assert Change("loss", 1.5, 1.0).step == -0.5
    assert Change("loss", None, 1.0).step is None
    assert Change("flag", True, False).step is None
