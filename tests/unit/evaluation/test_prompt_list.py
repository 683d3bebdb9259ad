import json

import pytest

from videocrafter.evaluation.prompt_list import PromptItem, prompts_sha256, read_prompt_list


def test_text_and_tables_are_lists_of_prompts(tmp_path):
    text = tmp_path / "prompts.txt"
    text.write_bytes("\ufeffa kite\r\n\r\n  a café  \r\n".encode())
    assert read_prompt_list(text) == (PromptItem(prompt="a kite"), PromptItem(prompt="a café"))
    table = tmp_path / "prompts.jsonl"
    table.write_text('{"prompt": "a kite", "seed": 4, "image": "kite.png", "aspect": "action"}\n')
    (item,) = read_prompt_list(table)
    assert item == PromptItem(prompt="a kite", seed=4, image=tmp_path / "kite.png", attributes={"aspect": "action"})


def test_lists_that_cannot_be_trusted_are_errors(tmp_path):
    cases = {
        "a.txt": ("\n\n", "contains no prompts"),
        "b.csv": ("name,seed\nx,1\n", "line 2 has no prompt"),
        "c.csv": ("prompt,seed\nx,1.5\n", "line 2: seed must be a whole number"),
        "d.jsonl": ('{"prompt": 3}\n', "line 1: expected text, found 3"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_prompt_list(tmp_path / name)


def test_numbered_prompts_are_in_the_order_of_their_numbers_without_gaps(tmp_path):
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps({str(n): {"prompt": f"p{n}"} for n in (0, 10, *range(1, 10))}))
    assert [item.prompt for item in read_prompt_list(path)] == [f"p{n}" for n in range(11)]
    for content, message in (
        ({"1": {"prompt": "a"}}, "numbers are not 0 to 0"),
        ({"0": {"prompt": "a"}, "2": {"prompt": "b"}}, "numbers are not 0 to 1"),
        ({"0": {"prompt": "a", "attributes": ["x"]}}, "expected an object"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            read_prompt_list(path)


def test_the_hash_depends_on_prompts_and_order_only():
    assert prompts_sha256(("a", "b")) == prompts_sha256(("a", "b")) != prompts_sha256(("b", "a"))
    # printf 'a\nb' | sha256sum
    assert prompts_sha256(("a", "b")) == "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"
