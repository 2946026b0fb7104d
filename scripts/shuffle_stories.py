#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shuffles the words of every story: what a judge must find far less probable than the stories themselves.

    shuffle_stories.py INPUT OUTPUT [--seed N]

INPUT is a .json shard or a text file as judge_stories reads it; OUTPUT gets the stories in the same order and the same
form (text: separated by <|endoftext|>, or one per line), each with its own words in a random order, one space apart. An
empty story stays one.
"""
import argparse
import json
import pathlib
import random

SEPARATOR = "<|endoftext|>"


def shuffled(story, dice):
    words = story.split()
    dice.shuffle(words)
    return " ".join(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    text = arguments.input.read_bytes().decode()  # line ends as they are: judge_stories knows only one, \n
    if arguments.input.suffix == ".json":
        records = [{**record, "story": shuffled(record["story"], dice)} for record in json.loads(text)]
        text = json.dumps(records, ensure_ascii=False) + "\n"
    elif SEPARATOR in text:
        text = f"\n{SEPARATOR}\n".join(shuffled(story, dice) for story in text.split(SEPARATOR)) + "\n"
    else:
        text = "".join(shuffled(story, dice) + "\n" for story in text.split("\n") if story.strip())
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
