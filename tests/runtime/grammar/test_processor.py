"""The mask: what may be drawn at each place of an answer, on real rows of logits."""

import json

import pytest
import torch
from constrained import generate, small_tokenizer
from mull.errors import InvalidRequest, MullError
from mull.models.checkpoint.open import open_checkpoint
from mull.runtime.grammar.check import conformity, validate
from mull.runtime.grammar.constraint import Constraint, parse_format, parse_grammar
from mull.runtime.grammar.engine import GrammarEngine
from mull.runtime.grammar.processor import GrammarProcessor
from mull.runtime.tokenizer.load import load_tokenizer

BANNED = -torch.inf


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def engine(tokenizer):
    return GrammarEngine(tokenizer, "<think>\n")


class Follower:
    """A processor under test, its switch, and the ids of texts."""

    def __init__(self, engine, tokenizer, constraint, openings=()):
        self.active = True
        self.tokenizer = tokenizer
        compiled = engine.compile(constraint)
        self.processor = GrammarProcessor(compiled, lambda: self.active, openings, tokenizer.eos_ids)

    def allowed(self):
        logits = self.processor.apply(torch.zeros(self.tokenizer.vocab_size))
        assert ((logits == 0) | (logits == BANNED)).all()
        return {self.tokenizer.token_text(i) for i in (logits == 0).nonzero()[:, 0].tolist()}

    def take(self, text, *, drawn=True):
        for token in self.tokenizer.encode(text, special=False, parse_special=True):
            if drawn:
                self.processor.apply(torch.zeros(self.tokenizer.vocab_size))
            self.processor.accept(token)


@pytest.fixture
def follow(engine, tokenizer):
    return lambda value, *openings: Follower(engine, tokenizer, parse_format(value), openings)


def test_choices_share_beginnings(follow):
    it = follow("choice:he,hell,hello,world,é")
    assert it.allowed() == {"h", "he", "hell", "w", "Ã"}
    it.take("he")
    assert it.allowed() == {"l", "ll", "<|im_end|>"}
    assert it.processor.is_complete
    it.take("l")
    assert it.allowed() == {"l"}
    assert not it.processor.is_complete
    it.take("l")
    assert it.allowed() == {"o", "<|im_end|>"}
    it.take("o")
    assert it.allowed() == {"<|im_end|>"}


def test_characters_are_split_over_tokens(follow):
    it = follow("choice:東,🙂")
    for byte in "東".encode():
        assert not it.processor.is_complete
        it.processor.apply(torch.zeros(it.tokenizer.vocab_size))
        it.processor.accept(byte)
    assert it.allowed() == {"<|im_end|>"}


def test_thoughts_and_forced_tokens_are_not_the_grammars(follow):
    it = follow("regex:[0-9]+", 262)
    think = it.tokenizer.token_text(262)
    assert think == "<think>"
    assert it.allowed() == {*"0123456789", think}
    it.processor.accept(262)
    it.active = False
    assert it.allowed() == {it.tokenizer.token_text(i) for i in range(it.tokenizer.vocab_size)}
    it.take("hello 12 <think>")
    it.active = True
    it.take("he", drawn=False)
    assert it.allowed() >= set("0123456789")
    assert think not in it.allowed()
    it.take("7")
    assert it.allowed() == {*"0123456789", "<|im_end|>"}


def test_tags_of_several_tokens(follow):
    tag = list(b"<x>")
    it = follow("regex:<y>|z", *tag)
    assert it.allowed() == {"<", "z"}
    it.take("<")
    assert it.allowed() == {"x", "y"}  # tag or text
    it.take("x")
    assert it.allowed() == {">"}
    it.take(">")
    it.active = False
    it.take("hello")
    it.active = True
    assert {"<", "z", "Ċ"} <= it.allowed()
    it.take("<")
    assert it.allowed() == {"y"}
    it = follow("regex:<y>|z", *tag)
    it.take("<y")
    assert it.allowed() == {">"}
    it.take(">")
    assert it.allowed() == {"<|im_end|>"}
    it = follow("regex:[a-z<>]+", *tag)  # the grammar's text is the tag's
    it.take("<x>")
    it.active = False
    it.take("he")
    it.active = True
    assert "<|im_end|>" not in it.allowed()
    it.take("he")
    assert "<|im_end|>" in it.allowed()


def test_white_space_may_stand_between_thought_and_answer(follow):
    it = follow("regex:[0-9]+|\\t", 262)
    spaces = {"Ġ", "Ċ", "č", "  \n"}
    assert not spaces & it.allowed()
    it.active = False
    it.take("he")
    it.active = True
    for _ in range(4):
        assert spaces <= it.allowed()
        it.take("\n")
    assert it.allowed() == {*"0123456789", "ĉ"}
    it.take("\t")  # the grammar's own
    assert it.allowed() == {"<|im_end|>"}


def test_the_end_is_allowed_where_the_grammar_may_end(follow):
    it = follow("regex:a(bc)?")
    assert it.allowed() == {"a"}
    it.take("a")
    assert it.allowed() == {"b", "<|im_end|>"}
    it.take("<|im_end|>")
    assert it.processor.is_complete
    it = follow("regex:ab")
    it.take("a")
    assert it.allowed() == {"b"}
    assert not it.processor.is_complete


def test_rows_longer_and_shorter_than_the_vocabulary(engine, tokenizer):
    compiled = engine.compile(parse_format("regex:[hw]"))
    for size in (tokenizer.vocab_size + 1000, tokenizer.vocab_size, 257, 110):
        row = GrammarProcessor(compiled, lambda: True, eos_ids={0, 10**6}).apply(torch.ones(size))
        allowed = {tokenizer.token_text(i) for i in (row > BANNED).nonzero()[:, 0].tolist()}
        assert allowed == {"h", "w"} & {tokenizer.token_text(i) for i in range(size)}
        assert row.shape == (size,)


def test_allowed_logits_stay_as_they_are(engine, tokenizer):
    processor = GrammarProcessor(engine.compile(parse_format("regex:[hw]")), lambda: True)
    row = torch.randn(tokenizer.vocab_size)
    masked = processor.apply(row.clone())
    assert (masked == row).sum() == 2
    assert int(masked.argmax()) in {tokenizer.token_id("h"), tokenizer.token_id("w")}


def test_large_but_harmless(engine):
    for text in (
        r"[(){60000}]\{60000\}[^]{70000}]\p{Han}{9}",
        ".{0,50000}",
        "(a|bc){2,900}x?",
        "[[a-z]{60000}]",
    ):
        assert engine.compile(Constraint("regex", text))


@pytest.mark.gpu
def test_rows_on_a_gpu(engine, tokenizer):
    compiled = engine.compile(parse_format("json"))
    row = torch.randn(tokenizer.vocab_size)
    here = GrammarProcessor(compiled, lambda: True).apply(row.clone())
    there = GrammarProcessor(compiled, lambda: True).apply(row.cuda())
    assert torch.equal(here, there.cpu())


def test_sequences_of_one_grammar_do_not_disturb_each_other(follow):
    one, other = follow("choice:hello,world"), follow("choice:hello,world")
    assert one.processor is not other.processor
    one.take("w")
    assert other.allowed() == {"h", "he", "hell", "w"}
    assert one.allowed() == {"o"}


@pytest.mark.parametrize(
    ("grammar", "texts"),
    [
        ('root ::= ("a" | "b" root "b")', {"a", "bab", "bbabb"}),
        ('start: WORD ("," WORD)*\nWORD: /[ab]/', {"a", "b", "b,b"}),
        ('start: "x" | <think> "y"', {"x", "y"}),
        ("root ::= <think> [a-b] | <[256]>", {"a", "b", "he"}),
    ],
)
def test_grammars(engine, tokenizer, grammar, texts):
    compiled = engine.compile(parse_grammar(grammar))
    found = set()
    for seed in range(40):
        processor = GrammarProcessor(compiled, lambda: True, eos_ids=tokenizer.eos_ids)
        text, finished = generate(processor, tokenizer, seed, most=80)
        found |= {text.replace("<think>", "")} if finished else set()
    assert texts <= found


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Constraint("regex", "["), "unclosed character class"),
        (Constraint("regex", "(?=a)b"), "look-around"),
        (Constraint("regex", r"(a)\1"), "backreferences"),
        (Constraint("regex", "a{1000000}"), "too large"),
        (Constraint("regex", "(a{1000}){1000}"), "too large"),
        (Constraint("regex", "((a{100}){100}){100}b"), "too large"),
        (Constraint("schema", '{"type": "string", "pattern": "^([ab]{5}c){20000}"}'), "pattern is too large"),
        (Constraint("schema", '{"patternProperties": {"a{60000}": {}}}'), "pattern is too large"),
        (Constraint("gbnf", 'root ::= ("a"{300} "b"){300}'), "too large"),
        (Constraint("gbnf", 'root ::= x{300} root?\nx ::= "a"{300}'), "too large"),
        (Constraint("regex", r"[^\x00-\x{10FFFF}]"), "accepts nothing"),
        (Constraint("regex", "()"), "accepts only the empty text"),
        (Constraint("lark", "start: x"), "x"),
        (Constraint("lark", 'start: "a'), "lexer error .line 1, column 10"),
        (Constraint("lark", 'begin: "a"'), "start"),
        (Constraint("lark", "start: <|no_such_token|>"), "no_such_token"),
        (Constraint("lark", 'start: /a{1000000}/ "b"'), "too large"),
        (Constraint("gbnf", "root ::= <no-such-token>"), "no-such-token"),
        (Constraint("gbnf", "root ::= <[99999]>"), "Token range end too large: 99999"),
    ],
)
def test_what_cannot_be_followed_is_refused_at_once(engine, constraint, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        engine.compile(constraint)
    assert "\n" not in caught.value.message


def test_a_grammar_that_grows_too_complex_ends_the_answer(engine, tokenizer):
    processor = GrammarProcessor(engine.compile(parse_format("regex:a+")), lambda: True, eos_ids={5})
    processor.accept(97)  # not drawn: not the grammar's
    processor.apply(torch.zeros(tokenizer.vocab_size))
    processor._matcher.consume_token(98)  # an error that the matcher never leaves
    row = processor.apply(torch.zeros(tokenizer.vocab_size))
    assert (row > BANNED).nonzero()[:, 0].tolist() == [5]
    assert processor.failure
    assert not processor.is_complete


def test_compiled_grammars_are_kept(engine):
    assert engine.compile(parse_format("regex:abc")) is engine.compile(parse_format("regex:abc"))
    for number in range(40):
        engine.compile(parse_format(f"regex:{number}"))
    assert engine.compile(parse_format("regex:abc"))


def test_answers_are_looked_at_once_more():
    schema = parse_format({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert validate('\n\n{"n": 5}', schema) is None
    with pytest.raises(MullError, match="before its format is complete") as caught:
        validate('{"n": ', schema)
    assert "--num-predict" in (caught.value.hint or "")
    with pytest.raises(MullError, match="does not have the format"):
        validate('{"n": "5"}', schema)
    assert conformity("", parse_format("regex:a?")) == "valid"
    assert conformity(" a", parse_format("regex: a")) == "valid"
    assert validate("anything", parse_grammar("start: <think>")) is None


@pytest.mark.parametrize("name", ["qwen2", "llama-spm", "phi-3", "gpt-2"])
def test_real_vocabularies(shared_data, name):
    with open_checkpoint(shared_data / "tokenizers" / f"ggml-vocab-{name}.gguf") as checkpoint:
        tokenizer = load_tokenizer(checkpoint)
    engine = GrammarEngine(tokenizer)
    schema = {
        "type": "object",
        "properties": {
            "a long name": {"type": "string", "maxLength": 20},
            "kind": {"enum": ["Größe", "taille 東京"]},
            "n": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        },
        "required": ["a long name", "kind", "n"],
        "additionalProperties": False,
    }
    for value in (schema, "choice:Größe,Größen,東京 🙂", "regex:[A-Z][a-z]{2,8}( [0-9]{3}){2}"):
        constraint = parse_format(value)
        compiled = engine.compile(constraint)
        for seed in range(3):
            processor = GrammarProcessor(compiled, lambda: True, eos_ids=tokenizer.eos_ids)
            text, finished = generate(processor, tokenizer, seed)
            # WordPiece writes a space before words; a text that begins with one is the same text.
            state = conformity(text, constraint)
            assert state == "valid" if finished else state in ("valid", "incomplete"), text
            if finished and isinstance(value, dict):
                assert json.loads(text).keys() == schema["properties"].keys()


def test_the_model_may_split_a_text_as_it_likes(engine, tokenizer):
    text = '{"hello": "well he hell"}'
    byte_by_byte = list(text.encode())
    for ids in (tokenizer.encode(text, special=False), byte_by_byte):
        processor = GrammarProcessor(engine.compile(parse_format("json")), lambda: True, eos_ids={5})
        for token in ids:
            assert processor.apply(torch.zeros(tokenizer.vocab_size))[token] == 0, (text, token)
            processor.accept(token)
        assert processor.is_complete
