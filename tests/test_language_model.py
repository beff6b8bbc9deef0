"""The decoder against NumPy loops in float64, its cache against full forwards, and bits against a law that is known."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from kdcourse import models
from kdcourse.data import data_dir
from kdcourse.language import Block, Decoder, bits_per_byte, bits_per_token, generate
from kdcourse.models import language_teacher, load_model, save_model
from kdcourse.text import Bytes, MarkovLanguage, Vocabulary, load_speeches, markov_language


def model(**changed):
    """A small decoder in float64 whose weights are large enough to matter, biases and norms too."""
    made = Decoder(**({"vocabulary": 7, "width": 8, "layers": 2, "heads": 2, "context": 12} | changed)).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 0.4)
    return made


def drawn(*shape, classes=7, seed=1):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=atol)


# --- the network ------------------------------------------------------------------------------------------------------


def by_loops(made, tokens):
    """The logits of one sequence, position by position and head by head."""
    w = {name: weight.detach().numpy() for name, weight in made.named_parameters()}

    def linear(name, x):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean()
        return centred / np.sqrt((centred**2).mean() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x):
        return x * np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in x])

    xs = [w["token.weight"][token] + w["position.weight"][place] for place, token in enumerate(tokens)]
    for number, block in enumerate(made.blocks):
        at = f"blocks.{number}"
        normed = [norm(f"{at}.norm1", x) for x in xs]
        queries, keys, values = ([linear(f"{at}.{part}", x) for x in normed] for part in ("query", "key", "value"))
        size, mixed = len(xs[0]) // block.heads, []
        for place in range(len(xs)):
            heads = []
            for start in range(0, len(xs[0]), size):
                part = slice(start, start + size)
                scores = [math.exp(queries[place][part] @ keys[j][part] / math.sqrt(size)) for j in range(place + 1)]
                heads.append(sum(s * values[j][part] for j, s in enumerate(scores)) / sum(scores))
            mixed.append(np.concatenate(heads))
        xs = [x + linear(f"{at}.out", m) for x, m in zip(xs, mixed, strict=True)]
        xs = [x + linear(f"{at}.down", gelu(linear(f"{at}.up", norm(f"{at}.norm2", x)))) for x in xs]
    return np.stack([w["head.weight"] @ norm("norm", x) for x in xs])


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_decoder_is_what_loops_compute(heads):
    made, tokens = model(heads=heads), drawn(2, 9)
    expected = np.stack([by_loops(made, line) for line in tokens.tolist()])
    close(made(tokens).detach(), torch.from_numpy(expected), atol=1e-11)


def test_no_position_depends_on_a_later_token():
    made, tokens = model(), drawn(1, 9)
    embedded = made.token(tokens).detach().requires_grad_()
    made.token.forward = lambda _: embedded
    for place in range(9):
        slope = torch.autograd.grad(made(tokens)[0, place].pow(2).sum(), embedded)[0][0]
        assert slope.any(dim=-1).tolist() == [j <= place for j in range(9)]


def test_sequences_of_a_batch_do_not_see_each_other():
    made, tokens = model(), drawn(3, 6)
    close(made(tokens), torch.cat([made(line[None]) for line in tokens]))


def test_seed_gives_the_weights_and_leaves_the_global_state():
    before = torch.get_rng_state()
    one, same, other = (Decoder(5, width=4, heads=1, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_matrices_of_the_blocks_have_the_weights_that_are_said():
    made = Decoder(30, width=16, layers=3, heads=2)
    assert sum(p.numel() for p in made.blocks.parameters() if p.ndim == 2) == 12 * 3 * 16**2


def test_untrained_decoder_holds_all_tokens_about_equally_probable():
    made = Decoder(64, width=64)
    assert bits_per_token(made, drawn(500, classes=64), context=128) == pytest.approx(6, abs=0.1)


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[1] * 9, [4, 5], [8, 1], [1, 3, 5], [9]], ids=str)
def test_reading_in_pieces_is_a_full_forward(pieces):
    made, tokens = model(), drawn(3, 9)
    cache, found = None, []
    for piece in tokens.split(pieces, dim=1):
        logits, cache = made.read(piece, cache)
        found.append(logits)
    close(torch.cat(found, dim=1), made(tokens))
    assert all(part.shape == (3, 2, 9, 4) for pair in cache for part in pair)


def test_a_cache_is_left_as_it_was():
    made, tokens = model(), drawn(1, 6)
    _, cache = made.read(tokens[:, :4])
    kept = [part.clone() for pair in cache for part in pair]
    made.read(tokens[:, 4:], cache)
    assert all(torch.equal(part, old) for part, old in zip([p for pair in cache for p in pair], kept, strict=True))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_generating_with_the_cache_and_without_is_the_same(temperature):
    written = [
        generate(model(), drawn(4, 3), length=9, temperature=temperature, cached=cached, generator=seeded_generator())
        for cached in (True, False)
    ]
    assert torch.equal(*written)
    assert written[0].shape == (4, 12)
    assert torch.equal(written[0][:, :3], drawn(4, 3))


def seeded_generator(seed=8):
    return torch.Generator().manual_seed(seed)


# --- generating -------------------------------------------------------------------------------------------------------


def test_greedy_takes_the_most_probable_token_each_time():
    made = model()
    written = generate(made, drawn(2, 2), length=6, temperature=0)
    assert torch.equal(written[:, 2:], made(written)[:, 1:-1].argmax(dim=-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_as_frequent_as_the_softened_probabilities(temperature):
    made, count = model(), 20_000
    prompt = drawn(1, 3)
    written = generate(made, prompt.expand(count, 3), length=1, temperature=temperature, generator=seeded_generator())[
        :, -1
    ]
    p = (made(prompt)[0, -1] / temperature).softmax(-1)
    found = torch.bincount(written, minlength=7) / count
    assert ((found - p).abs() <= 5 * (p * (1 - p) / count).sqrt() + 1 / count).all()


def test_tiny_temperature_is_greedy_and_not_a_division_by_nearly_nothing():
    written = [generate(model(), drawn(3, 2), length=5, temperature=t) for t in (0, 1e-310)]
    assert torch.equal(*written)


def test_generator_decides_and_global_state_is_left():
    before = torch.get_rng_state()
    one, same, other = (generate(model(), drawn(1, 2), length=9, generator=seeded_generator(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_model_writes_in_eval_mode_and_is_left_as_it_was():
    made = model().train()
    made.blocks[0].eval()
    seen = []
    made.norm.register_forward_hook(lambda layer, *_: seen.append(layer.training))
    generate(made, drawn(1, 2), length=2)
    assert seen == [False, False]
    assert made.training
    assert not made.blocks[0].training


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda made: generate(made, torch.zeros(1, 0).long(), length=1), ValueError, "one token or more"),
        (lambda made: generate(made, torch.zeros(1, 0).long(), length=0), ValueError, "one token or more"),
        (lambda made: generate(made, drawn(1, 8), length=5), ValueError, "context of 12"),
        (lambda made: generate(made, drawn(1, 8), length=-1), ValueError, "length"),
        (lambda made: generate(made, drawn(1, 8), length=1, temperature=-1), ValueError, "temperature"),
        (lambda made: generate(made, torch.zeros(1, 3), length=1), TypeError, "encode the text"),
        (lambda made: generate(made.token, drawn(1, 2), length=1), TypeError, "needs a Decoder"),
        (lambda made: made(drawn(1, 13)), ValueError, "13 tokens are more than the context of 12"),
        (lambda made: made.read(drawn(1, 2), made.read(drawn(1, 11))[1]), ValueError, "13 tokens"),
        (lambda made: made(drawn(5)), ValueError, r"tokens\[None\]"),
        (lambda made: made(torch.tensor([[0, 7]])), ValueError, "token 7 is not"),
        (lambda made: made(torch.tensor([[0, -1]])), ValueError, "token -1 is not"),
    ],
)
def test_what_cannot_be_read_or_written_is_refused(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(model())


@pytest.mark.parametrize("sizes", [{"width": 6, "heads": 4}, {"layers": 0}, {"vocabulary": 1}, {"context": 0}])
def test_sizes_that_make_no_decoder_are_refused(sizes):
    with pytest.raises(ValueError, match=r"multiple of heads|must be an integer"):
        Decoder(**({"vocabulary": 7, "width": 8} | sizes))


@pytest.mark.parametrize(("width", "heads"), [(6, 4), (6, 0), (0, 1)])
def test_sizes_that_make_no_block_are_refused(width, heads):
    with pytest.raises(ValueError, match=r"multiple of heads|must be an integer"):
        Block(width, heads=heads)


@pytest.mark.parametrize("other", [{"layers": 1}, {"layers": 3}, {"width": 16}, {"heads": 4}, None], ids=str)
def test_cache_of_another_model_or_of_other_sequences_is_refused(other):
    _, cache = model(**(other or {})).read(drawn(2 if other else 3, 4))
    for wrong in (cache, [], cache[:1]):
        with pytest.raises(ValueError, match="of another model or of other sequences"):
            model().read(drawn(2, 1), wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_writes_too(dtype):
    made = model().to(dtype)
    assert generate(made, drawn(2, 3), length=4, temperature=0).shape == (2, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert generate(model().float(), drawn(2, 3), length=4).shape == (2, 7)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_back_the_decoder_bit_for_bit_in_eval_mode(tmp_path):
    made = model(heads=4, layers=3).float().train()
    save_model(made, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, Decoder)
    assert not loaded.training
    assert torch.equal(loaded(drawn(2, 12)), made(drawn(2, 12)))
    assert loaded.architecture == made.architecture


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda made: made.blocks.append(Block(8, heads=2)), "there is"),
        (lambda made: setattr(made.blocks[0], "heads", 4), "heads = 4, not 2"),
        (lambda made: setattr(made, "context", 6), "context = 6, not 12"),
        (lambda made: setattr(made.head, "weight", made.token.weight), "tied"),
        (lambda made: made.double(), "float64"),
    ],
)
def test_decoder_that_could_not_be_rebuilt_is_refused(change, sentence, tmp_path):
    made = model().float()
    change(made)
    with pytest.raises(ValueError, match=sentence):
        save_model(made, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_diverged_model_writes_nothing():
    made = model()
    made.head.weight.data[2] = math.nan
    with pytest.raises(ValueError, match="diverged"):
        generate(made, drawn(1, 2), length=1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_token_of_minus_infinity_is_never_written(temperature):
    made = model()
    made.head.register_forward_hook(lambda layer, given, logits: logits.index_fill(-1, torch.arange(6), -math.inf))
    assert (generate(made, drawn(3, 2), length=5, temperature=temperature)[:, 2:] == 6).all()
    made.head.register_forward_hook(lambda layer, given, logits: torch.full_like(logits, -math.inf))
    with pytest.raises(ValueError, match="one must be possible"):
        generate(made, drawn(3, 2), length=1)


# --- bits -------------------------------------------------------------------------------------------------------------


def test_true_law_needs_the_bits_of_the_chain_whatever_the_windows():
    language = markov_language(5, seed=2)
    tokens = language.sample(1, 400, generator=seeded_generator())[0]
    chain = [-math.log2(language.transitions[a, b]) for a, b in zip(tokens[:-1], tokens[1:], strict=True)]
    for context, stride in ((2, 1), (7, 3), (64, 63), (64, None), (399, 5), (400, None), (1000, 1)):
        found = bits_per_token(language.log_probs, tokens, context=context, stride=stride)
        assert found == pytest.approx(sum(chain) / len(chain), rel=1e-12)


@pytest.mark.parametrize(("length", "context", "stride"), [(17, 6, 2), (17, 6, 5), (18, 6, 1), (6, 6, 3), (5, 6, 3)])
def test_each_token_is_predicted_once_from_the_window_that_is_said(length, context, stride):
    made, tokens = model(), drawn(length)
    total, place, start = 0.0, 1, 0
    while place < length:
        if place >= start + context:
            start += stride
            continue
        log_probs = made(tokens[None, start:place])[0, -1].log_softmax(-1)
        total, place = total - log_probs[tokens[place]].item() / math.log(2), place + 1
    found = bits_per_token(made, tokens, context=context, stride=stride)
    assert found == pytest.approx(total / (length - 1), rel=1e-11)


def test_wrong_law_pays_the_divergence():
    true, wrong = markov_language(4, seed=1), markov_language(4, seed=2)
    tokens = true.sample(1, 60_000, generator=seeded_generator())[0]
    extra = (true.stationary() @ (true.transitions * (true.transitions / wrong.transitions).log2()).sum(dim=1)).item()
    found = bits_per_token(wrong.log_probs, tokens, context=1000)
    assert found == pytest.approx(true.entropy_rate() + extra, rel=0.03)


def test_bits_per_byte_count_bytes_and_not_tokens():
    text = "aéaéé€"
    vocabulary = Vocabulary.of(text)

    def evenly(size):
        return lambda tokens: torch.zeros(*tokens.shape, size)

    assert bits_per_byte(evenly(3), vocabulary, text, context=4) == pytest.approx(5 * math.log2(3) / 10)
    assert bits_per_byte(evenly(256), Bytes(), text, context=4) == pytest.approx(8)


def test_bits_that_cannot_be_counted_are_refused():
    never = MarkovLanguage(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
    with pytest.raises(ValueError, match="probability 0"):
        bits_per_token(never.log_probs, torch.tensor([0, 0]), context=4)
    for tokens in (torch.tensor([0]), torch.zeros(2, 4).long(), torch.zeros(4)):
        with pytest.raises(ValueError, match="two int64 tokens"):
            bits_per_token(never.log_probs, tokens, context=4)
    for logits in (torch.zeros(1, 4), torch.zeros(1, 3, 7), torch.zeros(1, 7, 4), torch.zeros(4, 7)):
        with pytest.raises(ValueError, match=r"must return logits \(1, 4, V\)"):
            bits_per_token(lambda _, found=logits: found, drawn(4), context=4)
    with pytest.raises(TypeError, match="got tuple"):
        bits_per_token(lambda tokens: (torch.zeros(*tokens.shape, 7),), drawn(4), context=4)
    for token in (-100, -1, 7):
        with pytest.raises(ValueError, match=f"token {token} is not one of the 7"):
            bits_per_token(lambda tokens: torch.zeros(*tokens.shape, 7), torch.tensor([0, token, 1]), context=4)
    with pytest.raises(ValueError, match="stride must be below"):
        bits_per_token(never.log_probs, torch.tensor([0, 1]), context=4, stride=4)


# --- the stored teacher -----------------------------------------------------------------------------------------------


def test_stored_teacher_needs_the_bits_that_its_job_recorded():
    record = json.loads((data_dir() / "language_teacher.json").read_text(encoding="utf-8"))
    teacher, vocabulary = language_teacher()
    assert not teacher.training
    assert sum(parameter.numel() for parameter in teacher.parameters()) == record["parameters"]
    test = "\n".join(each.text for each in load_speeches().test)
    found = bits_per_token(teacher, vocabulary.encode(test[:20_000]), **record["recipe"]["bits"])
    assert found == pytest.approx(record["bits_per_character"]["excerpt of test"], abs=2e-4)  # it has four digits


def test_stored_teacher_writes_words_of_the_speeches():
    teacher, vocabulary = language_teacher()
    prompt = vocabulary.encode("I transmit herewith ")[None]
    tokens = generate(teacher, prompt, length=200, temperature=0.5, generator=seeded_generator())[0, 20:]
    known = {word for each in load_speeches().train for word in each.text.split()}
    words = vocabulary.decode(tokens).split()[:-1]
    assert sum(word in known for word in words) >= 0.8 * len(words)


@pytest.fixture
def copy_of_the_teacher(tmp_path, monkeypatch):
    for kind in ("json", "safetensors"):
        shutil.copy(data_dir() / f"language_teacher.{kind}", tmp_path)
    monkeypatch.setattr(models, "data_dir", lambda: tmp_path)
    return tmp_path / "language_teacher.json"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: path.write_text("{"), "is damaged: git restore language_teacher.json"),
        (lambda path: path.write_text("[]"), "not as its job stored it"),
        (lambda path: path.write_text(path.read_text().replace('"seed": 0', '"seed": 1')), "not as its job stored it"),
        (lambda path: save_model(model().float(), path.with_suffix(".safetensors")), "not the model that"),
        (lambda path: path.with_suffix(".safetensors").write_bytes(b"none"), "is damaged"),
    ],
)
def test_stored_teacher_that_is_another_or_damaged_is_refused(copy_of_the_teacher, change, sentence):
    assert len(language_teacher()[1]) == 97
    change(copy_of_the_teacher)
    with pytest.raises(ValueError, match=sentence):
        language_teacher()


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_missing_teacher_is_one_sentence(copy_of_the_teacher, kind):
    copy_of_the_teacher.with_suffix(f".{kind}").unlink()
    with pytest.raises(FileNotFoundError, match=f"language_teacher.{kind}"):
        language_teacher()
