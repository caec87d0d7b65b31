"""Sentences in, padded batches out; the tokens are those that NLTK's own documentation prints."""

import hashlib
import time

import numpy as np
import pytest
import sts_text
import torch
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from sts_text import (
    PairSplit,
    Vocabulary,
    build_vocabulary,
    load_corpus,
    load_word_vectors,
    read_pairs,
    tokenize,
)

from common.errors import UserError
from common.task import Draw

pytestmark = pytest.mark.slow

HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
REAL = SHARED / "data" / "sts-b"
REAL_VECTORS = SHARED / "data" / "glove" / "glove.6B.100d.stsb.txt"


def row(first="A dog.", second="A cat.", score="2.5"):
    return "\t".join(["0", "news", "MSRpar", "2012", "0", "none", "none", first, second, score])


def write(path, *rows, header=HEADER):
    path.write_text("".join(f"{line}\n" for line in (header, *rows)), encoding="utf-8", newline="")
    return path


def fails(path, *parts):
    """The one line that reading `path` ends with, which must say where and hold each of `parts`."""
    with pytest.raises(UserError) as caught:
        read_pairs(path)
    message = str(caught.value)
    assert "\n" not in message and "scripts/download.py sts-b" in message
    for part in (str(path), *parts):
        assert part in message
    return message


# Reading


def test_rows_are_read_as_they_stand(tmp_path):
    path = write(
        tmp_path / "a.tsv",
        row('"Hi," he said', 'an "odd quote', "5.000"),
        row("one\u2028two\x85three", " spaced ", "0"),
        row("carriage\rreturn", "z", "3.8") + "\r",
    )
    pairs = read_pairs(path)
    assert pairs.first == ['"Hi," he said', "one\u2028two\x85three", "carriage\rreturn"]
    assert pairs.second == ['an "odd quote', " spaced ", "z"]
    assert pairs.scores.dtype == np.float32
    np.testing.assert_array_equal(pairs.scores, np.array([5, 0, 3.8], np.float32))


def test_columns_after_the_score_and_blank_last_lines_are_let_be(tmp_path):
    assert read_pairs(write(tmp_path / "a.tsv", row() + "\textra", "", "")).first == ["A dog."]


@pytest.mark.parametrize("score", ["", "abc", "nan", "inf", "-0.1", "5.001", "1,5"])
def test_a_score_outside_0_to_5_names_its_line(tmp_path, score):
    fails(write(tmp_path / "a.tsv", row(), row(score=score)), "line 3", score)


@pytest.mark.parametrize(
    ("kwargs", "name"), [({"first": " "}, "sentence1"), ({"second": "\xa0"}, "sentence2")]
)
def test_an_empty_sentence_names_its_line(tmp_path, kwargs, name):
    fails(write(tmp_path / "a.tsv", row(), row(), row(**kwargs)), "line 4", f"{name} is empty")


def test_too_few_columns_name_the_line(tmp_path):
    short = row().rsplit("\t", 1)[0]
    fails(write(tmp_path / "a.tsv", row(), short), "line 3", "9 columns", "10")
    fails(write(tmp_path / "b.tsv", row(), "", row()), "line 3", "1 columns")


def test_a_file_without_rows(tmp_path):
    fails(write(tmp_path / "a.tsv"), "line 1", "no rows")
    (tmp_path / "b.tsv").touch()
    fails(tmp_path / "b.tsv", "line 1", "no rows")


def test_a_file_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(f"{HEADER}\n{row()}\n{row('café')}\n".encode("latin-1"))
    fails(path, "line 3", "utf-8")
    path.write_text(f"{HEADER}\n{row()}\n", encoding="utf-16")
    fails(path, "line 1", "utf-8")


# Tokens

DOCUMENTED = {  # printed in NLTK's documentation and its doctests of word_tokenize
    "Good muffins cost $3.88\nin New York.  Please buy me\ntwo of them.\n\nThanks.":
        "Good muffins cost $ 3.88 in New York . Please buy me two of them . Thanks .",
    "On a $50,000 mortgage of 30 years at 8 percent, the monthly payment would be $366.88.":
        "On a $ 50,000 mortgage of 30 years at 8 percent , the monthly payment would be $ 366.88 .",
    '"We beat some pretty good teams to get here," Slocum said.':
        "`` We beat some pretty good teams to get here , '' Slocum said .",
    'Well, we couldn\'t have this predictable, cliche-ridden, "Touched by an Angel" (a show creator '
    "John Masius worked on) wanna-be if she didn't.":
        "Well , we could n't have this predictable , cliche-ridden , `` Touched by an Angel '' ( a show "
        "creator John Masius worked on ) wanna-be if she did n't .",
    "I cannot cannot work under these conditions!": "I can not can not work under these conditions !",
    "The company spent 40.75% of its income last year.":
        "The company spent 40.75 % of its income last year .",
    "I bought these items: books, pencils, and pens.": "I bought these items : books , pencils , and pens .",
    "There were 300,000, but that wasn't enough.": "There were 300,000 , but that was n't enough .",
    "It's more'n enough.": "It 's more 'n enough .",
    "I called Dr. Jones. I called Dr. Jones.": "I called Dr. Jones . I called Dr. Jones .",
    "Ich muss unbedingt daran denken, Mehl, usw. fur einen Kuchen einzukaufen. Ich muss.":
        "Ich muss unbedingt daran denken , Mehl , usw . fur einen Kuchen einzukaufen . Ich muss .",
}  # fmt: skip
TRICKY = {
    "The U.S. economy grew. It's up.": "The U.S. economy grew . It 's up .",
    "Dr. Smith left the U.S. He works at Acme Inc.": "Dr. Smith left the U.S . He works at Acme Inc .",
    '"Stop," she said. (He didn\'t.)': "`` Stop , '' she said . ( He did n't . )",
    "Wait... what?": "Wait ... what ?",
    "They're gonna win; cannot lose!": "They 're gon na win ; can not lose !",
    "At 3:30 p.m. the dogs' bone -- gone": "At 3:30 p.m. the dogs ' bone -- gone",
    "“Café” isn’t open": "“ Café ” isn ’ t open",
    "Is this the MEDIA??": "Is this the MEDIA ? ?",
    "J. ?!": "J . ? !",  # the splitter that comes with the model makes it "J. ? !"
}


@pytest.mark.parametrize("sentence", [*DOCUMENTED, *TRICKY])
def test_tokens_are_those_of_word_tokenize(sentence):
    assert tokenize(sentence) == {**DOCUMENTED, **TRICKY}[sentence].split()


def test_tokens_are_cut_after_all_sentences_are_joined():
    assert tokenize("One two. Three four.", max_tokens=4) == ["One", "two", ".", "Three"]
    assert len(tokenize("word " * 60)) == 40


def test_no_model_is_looked_for_outside_the_packages(monkeypatch):
    import nltk.data

    monkeypatch.setattr(nltk.data, "find", lambda *args, **kwargs: pytest.fail("NLTK data are not wanted"))
    sts_text._tokenizers.cache_clear()
    assert tokenize("Mr. A came.") == ["Mr.", "A", "came", "."]


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1))
def test_a_sentence_with_anything_in_it_has_a_token(sentence):
    tokens = tokenize(sentence)
    assert bool(tokens) == bool(sentence.strip())
    assert all(tokens)


# Vocabulary


def test_words_go_by_frequency_and_ties_by_first_appearance():
    words = build_vocabulary([["b", "a", "c"], ["c", "d"], ["a", "c", "e"]]).words
    assert words == ["@@PADDING@@", "@@UNKNOWN@@", "c", "a", "b", "d", "e"]


def test_max_size_leaves_the_special_words_out_of_the_count():
    vocabulary = build_vocabulary([["b", "a", "c"], ["c", "d"]], max_size=2)
    assert vocabulary.words[2:] == ["c", "b"] and len(vocabulary) == 4
    assert vocabulary.encode(["c", "d", "b"]) == [2, 1, 3]


words = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=7)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6), st.data())
def test_a_batch_decodes_to_the_sentences_that_were_drawn(pairs, data):
    vocabulary = build_vocabulary(sentence for pair in pairs for sentence in pair)
    first, second = ([vocabulary.encode(pair[side]) for pair in pairs] for side in (0, 1))
    labels = np.arange(len(pairs), dtype=np.float32)
    split = PairSplit(first, second, labels, labels + 1)
    draw = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=5))
    (batch,) = split.batches([Draw(np.array(draw), 0)], augment=True, device=torch.device("cpu"))
    tokens, lengths = batch.inputs
    assert tokens.dtype == lengths.dtype == torch.int64
    assert tokens.shape == (2 * len(draw), int(lengths.max()))
    drawn = [pairs[index][0] for index in draw] + [pairs[index][1] for index in draw]
    assert [[vocabulary.words[index] for index in line if index] for line in tokens.tolist()] == drawn
    assert lengths.tolist() == [len(sentence) for sentence in drawn]
    assert batch.targets.tolist() == [[float(index)] for index in draw]
    assert batch.weights.tolist() == [[float(index) + 1] for index in draw]
    assert split.lengths.tolist() == [len(one) + len(other) for one, other in pairs]


# Word vectors


def vectors(path, text, words=("The", "dog", ".", "zebra"), dim=3, lowercase=False, seed=0):
    path.write_text(text, encoding="utf-8")
    return load_word_vectors(
        path, Vocabulary([*sts_text.SPECIAL_WORDS, *words]), dim, lowercase=lowercase, seed=seed
    )


GLOVE = "the 1 2 3\n. . . 7 7 7\n. 4 5 6\ndog -1e-1 .5 0.25\nat name@domain.com 8 8 8\n@@PADDING@@ 9 9 9\n"


def test_found_words_have_the_vectors_of_the_file(tmp_path):
    rows, found = vectors(tmp_path / "g.txt", GLOVE)
    assert rows.dtype == torch.float32 and rows.shape == (6, 3) and found == 2
    assert rows[0].tolist() == [0, 0, 0]
    torch.testing.assert_close(rows[3:5], torch.tensor([[-0.1, 0.5, 0.25], [4, 5, 6]]))


def test_lowercase_is_a_fallback(tmp_path):
    rows, found = vectors(tmp_path / "g.txt", GLOVE, lowercase=True)
    assert rows[2].tolist() == [1, 2, 3] and found == 3
    rows, found = vectors(tmp_path / "g.txt", "The 3 2 1\n" + GLOVE, words=("The", "THE"), lowercase=True)
    assert rows[2:].tolist() == [[3, 2, 1], [1, 2, 3]] and found == 2


def test_a_drawn_row_depends_on_the_seed_alone(tmp_path):
    rows, _ = vectors(tmp_path / "g.txt", GLOVE)
    fewer, found = vectors(tmp_path / "g.txt", "other 1 2 3\n")
    assert found == 0 and torch.equal(rows[[0, 1, 2, 5]], fewer[[0, 1, 2, 5]])
    other, _ = vectors(tmp_path / "g.txt", GLOVE, seed=1)
    assert (rows[[1, 2, 5]] != other[[1, 2, 5]]).all() and torch.equal(rows[[0, 3, 4]], other[[0, 3, 4]])


def test_drawn_rows_are_standard_normal(tmp_path):
    rows, _ = vectors(
        tmp_path / "g.txt", "x " + "1 " * 50 + "\n", words=[f"w{i}" for i in range(2000)], dim=50
    )
    assert abs(rows[1:].mean()) < 0.01 and abs(rows[1:].std() - 1) < 0.01


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("line 1", "empty")),
        ("400000 3\n" + GLOVE, ("line 1", "word2vec", "400000 3")),
        ("the 1 2\n", ("line 1", "2 numbers", "--d_word 2", "--d_word says 3")),
        ("the 1 2 3 4 5\n", ("line 1", "--d_word 5")),
        ("7 1 2 3 4\n", ("line 1", "--d_word 4")),
        ("the\n", ("line 1", "damaged")),
        ("PK\x03\x04 not text at all\n", ("line 1", "damaged")),
        ("the 1 2 3\nx 1 2\n", ("line 2", "2 numbers")),
        ("the 1 2 3\n\n", ("line 2", "0 numbers")),
        ("the 1 2 3\nx 1 2 3 4\n", ("line 2", "4 numbers")),
        ("the 1 2 3\na b 1 x 3\n", ("line 2", "1 numbers")),
        ("the 1 2 3\ndog 1 x2 3\n", ("line 2", "x2")),
        ("the 1 two 3\n", ("line 1", "two")),
        ("the 1 2 3\ndog 1 nan 3\n", ("line 2", "not finite")),
        ("the 1 2 3\n. 1 2 1e60\n", ("line 2", "not finite")),
    ],
)
def test_a_broken_file_names_its_line(tmp_path, text, parts):
    with pytest.raises(UserError) as caught:
        vectors(tmp_path / "g.txt", text)
    for part in (str(tmp_path / "g.txt"), "--word_embs_file", *parts):
        assert part in str(caught.value)


def test_missing_vectors_say_the_ways_out(tmp_path):
    with pytest.raises(UserError) as caught:
        load_word_vectors(tmp_path / "g.txt", Vocabulary([]), 3, lowercase=False, seed=0)
    for part in ("g.txt", "scripts/download.py glove", "--word_embs_file", "--glove 0"):
        assert part in str(caught.value)


# Splits


def test_batches_without_weights_follow_the_draws():
    split = PairSplit([[2, 3], [4], [5]], [[6], [7], [8, 9, 10]], np.array([0, 1, 2]))
    assert split.labels.dtype == np.float32 and split.lengths.dtype == np.int64
    draws = [Draw(np.array([1, 0]), 1), Draw(np.array([2]), 2)]
    one, two = split.batches(draws, augment=False, device=torch.device("cpu"))
    assert one.weights is None and two.weights is None
    assert one.inputs[0].tolist() == [[4, 0], [2, 3], [7, 0], [6, 0]] and one.inputs[1].tolist() == [
        1,
        2,
        1,
        1,
    ]
    assert two.inputs[0].tolist() == [[5, 0, 0], [8, 9, 10]] and two.targets.tolist() == [[2.0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_lengths_stay_on_the_cpu():
    split = PairSplit([[2, 3]], [[4]], np.array([1.0]), np.array([1.0]))
    (batch,) = split.batches([Draw(np.array([0]), 0)], augment=False, device=torch.device("cuda"))
    tokens, lengths = batch.inputs
    assert tokens.is_cuda and batch.targets.is_cuda and batch.weights.is_cuda and not lengths.is_cuda


@pytest.mark.parametrize(
    "args",
    [
        ([[2]], [[2], [3]], np.zeros(2)),
        ([[2]], [[2]], np.zeros(2)),
        ([[2]], [[2]], np.zeros(1), np.ones(2)),
        ([[2], []], [[2], [3]], np.zeros(2)),
        ([], [], np.zeros(0)),
    ],
)
def test_a_split_that_cannot_be_is_refused(args):
    with pytest.raises(ValueError):
        PairSplit(*args)


# Corpus


def test_the_vocabulary_goes_split_by_split_and_first_sentences_first(tmp_path):
    write(tmp_path / "train_new.tsv", row("p q", "r"), row("s", "t t", "1"))
    write(tmp_path / "dev_new.tsv", row("u", "v"))
    write(tmp_path / "test_new.tsv", row("w r", "x"))
    corpus = load_corpus(tmp_path, 40, 30000)
    assert corpus.vocabulary.words[2:] == ["r", "t", "p", "q", "s", "u", "v", "w", "x"]
    assert corpus.train.first == [[4, 5], [6]] and corpus.train.second == [[2], [3, 3]]
    assert corpus.val.first == [[7]] and corpus.test.first == [[9, 2]]
    assert corpus.train.labels.tolist() == [2.5, 1]
    cut = load_corpus(tmp_path, 1, 2)
    assert cut.vocabulary.words[2:] == ["p", "s"] and cut.train.second == [[1], [1]]


def test_all_missing_files_are_named_at_once(tmp_path):
    ways_out = ("scripts/download.py sts-b", "scripts/make_standin.py sts-b --out", "--data_dir")
    with pytest.raises(UserError) as caught:
        load_corpus(tmp_path / "nowhere", 40, 30000)
    for part in (str(tmp_path / "nowhere"), "no such folder", *sts_text.SPLIT_FILES.values(), *ways_out):
        assert part in str(caught.value)
    write(tmp_path / "dev_new.tsv", row())
    with pytest.raises(UserError) as caught:
        load_corpus(tmp_path, 40, 30000)
    for part in (str(tmp_path), "train_new.tsv, test_new.tsv", *ways_out):
        assert part in str(caught.value)
    assert "dev_new.tsv" not in str(caught.value)


# The real data, where they are at hand


@pytest.fixture(scope="module")
def real():
    if not all((REAL / file).is_file() for file in sts_text.SPLIT_FILES.values()):
        pytest.skip("the real STS-B-DIR is not at hand")
    return load_corpus(REAL, 40, 30000)


@pytest.mark.slow
def test_the_real_splits_and_vocabulary(real):
    assert [len(split.labels) for split in (real.train, real.val, real.test)] == [5249, 1000, 1000]
    assert len(real.vocabulary) == 17008
    digest = hashlib.sha256("\n".join(real.vocabulary.words).encode()).hexdigest()
    assert digest == "9f3babb68f621b03c3fefe849ffb5889274da94e418b2e01dd0eb18e7f52a837"


@pytest.mark.slow
def test_the_real_vectors(real):
    if not REAL_VECTORS.is_file():
        pytest.skip("the GloVe excerpt is not at hand")
    rows, found = load_word_vectors(REAL_VECTORS, real.vocabulary, 100, lowercase=True, seed=111)
    assert rows.shape == (17008, 100) and found == 15080
    torch.testing.assert_close(
        rows[real.vocabulary.index["!"]][:3], torch.tensor([0.38472, 0.49351, 0.49096])
    )
    assert torch.equal(rows[real.vocabulary.index["The"]], rows[real.vocabulary.index["the"]])


def test_an_epoch_of_real_batches_takes_well_below_a_second(real):
    order = np.random.default_rng(0).permutation(5249)
    start = time.perf_counter()
    draws = [Draw(order[begin : begin + 128], 0) for begin in range(0, 5249, 128)]
    batches = list(real.train.batches(draws, augment=True, device=torch.device("cpu")))
    assert time.perf_counter() - start < 1
    assert sum(len(batch.targets) for batch in batches) == 5249
