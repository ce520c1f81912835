"""What every head of the table must do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from avfeat.errors import ProbeError
from probes.heads import HEADS, head_class


@pytest.mark.parametrize("name", HEADS)
def test_a_head_says_what_it_learns_from_and_how_many_features_it_reads(name):
    head = head_class(name)
    assert head.kind == name
    assert head.learns_from in ("real and fake", "real")
    assert head.reads is None or head.reads >= 1
    assert head().get_params().keys() <= set(head.__init__.__code__.co_varnames)


def test_an_unknown_head_is_answered_with_those_there_are():
    with pytest.raises(ProbeError, match=re.escape(f"no head 'forest'; choose from {', '.join(HEADS)}.")):
        head_class("forest")


def test_the_names_of_the_heads_cost_no_heavy_import():
    code = "import json, sys, probes.heads; print(json.dumps(sorted({'torch', 'numpy', 'sklearn'} & set(sys.modules))))"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert json.loads(done.stdout) == []
