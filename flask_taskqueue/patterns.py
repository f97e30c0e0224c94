"""Names of tasks and queues, and the patterns they are held against."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable

_QUEUE_NAME = re.compile(r"[^\s,:\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")
_MAX_KEY = 255  # AMQP's limit of a routing key
_MAX_TASK_NAME = 255


def check_task_name(value: object) -> str:
    """The value, if it can name a task.

    :raises TypeError: It is no text, or an empty one.
    :raises ValueError: It has over 255 characters, or whitespace around them.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected the name of a task to be a text, got {value!r}")
    if len(value) > _MAX_TASK_NAME or value != value.strip():
        raise ValueError(
            f"expected the name of a task to be 1 to {_MAX_TASK_NAME} characters"
            f" without whitespace around them, got {value!r}"
        )
    return value


def check_queue_name(value: object) -> str:
    """The value, if it can name a queue.

    A comma separates names in text, and RQ derives keys such as
    ``rq:queue:<name>:intermediate``, so neither ``,`` nor ``:`` may occur.

    :raises ValueError: It is not a text of 1 to 200 such characters.
    """
    if isinstance(value, str) and _QUEUE_NAME.fullmatch(value):
        return value
    raise ValueError(
        "expected a queue name of 1 to 200 characters without whitespace, control"
        f" characters, ',' and ':', got {value!r}"
    )


def check_routing_key(value: object) -> str:
    """The value, if it can be a routing key.

    :raises ValueError: It is not a text of 1 to 255 characters.
    """
    if isinstance(value, str) and 0 < len(value) <= _MAX_KEY:
        return value
    raise ValueError(
        f"expected a routing key of 1 to {_MAX_KEY} characters, got {value!r}"
    )


def check_pattern(value: object) -> str:
    """The value, if :func:`matches` can ever do with it what its writer meant.

    ``send_*`` is refused: in a topic ``*`` stands for a whole word, so it would
    match nothing, silently.

    :raises ValueError: It is not a text, or ``*`` or ``#`` is part of a word.
    """
    pattern = check_routing_key(value)
    if not _is_glob(pattern):
        for word in pattern.split("."):
            if len(word) > 1 and ("*" in word or "#" in word):
                raise ValueError(
                    "expected '*' and '#' to be whole words between dots (a glob"
                    f" needs '?' or '[', as in 'mail.send_[a-z]*'), got {value!r}"
                )
    return pattern


def check_name_pattern(value: object) -> str | re.Pattern[str]:
    """The value, if it can stand for task names: a pattern, or a compiled regex.

    :raises ValueError: It is neither, or a regex of bytes.
    """
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        return value
    return check_pattern(value)


def matches(pattern: str | re.Pattern[str], key: str) -> bool:
    """Whether a routing key, or a task name, fits a pattern.

    Topics are compared word by word, words being separated by dots: ``*`` is
    exactly one word, ``#`` any number, none included. A pattern with ``?`` or
    ``[`` is a glob over the whole text, where ``*`` crosses dots. Case counts.
    The empty key has no words. A compiled regex need only fit the beginning of the
    key, as in Celery: ``$`` ends it.
    """
    if isinstance(pattern, re.Pattern):
        return pattern.match(key) is not None
    return _compiled(pattern)(key)


def is_pattern(pattern: str | re.Pattern[str]) -> bool:
    """Whether it can fit anything other than itself."""
    if isinstance(pattern, re.Pattern):
        return True
    return _is_glob(pattern) or "*" in pattern or "#" in pattern


def _is_glob(pattern: str) -> bool:
    return "?" in pattern or "[" in pattern


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Callable[[str], bool]:
    # Why patterns and not answers are cached: keys such as "user.<id>" have no end.
    if _is_glob(pattern):
        return lambda key: fnmatch.fnmatchcase(key, pattern)
    if is_pattern(pattern):
        return functools.partial(_topic, tuple(pattern.split(".")))
    return lambda key: key == pattern


def _topic(words: tuple[str, ...], key: str) -> bool:
    # Why not a regular expression: several "#" in one would backtrack without
    # end. Only the last "#" ever needs to give way: at most words x parts steps.
    parts = key.split(".") if key else []
    at = part = resume = 0
    after_hash = -1
    while part < len(parts):
        if at < len(words) and words[at] == "#":
            after_hash, resume = at + 1, part
            at += 1
        elif at < len(words) and words[at] in ("*", parts[part]):
            at += 1
            part += 1
        elif after_hash >= 0:
            resume += 1
            at, part = after_hash, resume
        else:
            return False
    return all(word == "#" for word in words[at:])
