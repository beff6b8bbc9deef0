"""What takes the place of judging in `test_life`: it ends its process for one student."""

import os
from dataclasses import replace


def judge(course, record, limits):
    if record.student == "bad":
        os._exit(1)
    return replace(record, damage="judged")


def nothing():
    return []
