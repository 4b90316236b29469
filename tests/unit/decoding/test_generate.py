from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fewtable.decoding.generate import layout, pad


@given(lengths=st.lists(st.integers(1, 50)), size=st.integers(1, 7))
def test_the_layout_holds_every_index_once_longest_first(lengths, size):
    batches = layout(lengths, size)
    flat = [i for batch in batches for i in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])


def test_padding_is_masked_on_either_side():
    ids, mask = pad([[5], [6, 7, 8]], 0, left=True)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]] and mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    ids, mask = pad([[0], [6, 7, 8]], 0, left=False)
    assert ids.tolist() == [[0, 0, 0], [6, 7, 8]] and mask.tolist() == [[1, 0, 0], [1, 1, 1]]
