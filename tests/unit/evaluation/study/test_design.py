import json

from tests.tiny_studies import make_tiny_study
from videocrafter.evaluation.study.design import read_design


def test_designs_made_before_sources_were_recorded_keep_their_hash(tmp_path):
    content = json.loads(make_tiny_study(tmp_path, prompts=2).design.to_json())
    for clip in content["clips"].values():
        clip.pop("source", None)
    older = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (tmp_path / "study" / "design.json").write_text(older, encoding="utf-8")
    assert read_design(tmp_path / "study").to_json() == older
