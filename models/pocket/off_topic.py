"""What people ask "pocket" that is none of its problems, and the honest answers it then gives."""

import random

_WORD_TEXT = """
the a an of to in and is it you that he was for on are with as his they be at one have this from or had by
hot word but what some we can out other were all there when up use your how said each she which do their
time if will way about many then them write would like so these her long make thing see him two has look
more day could go come did number sound no most people my over know water than call first who may down side
been now find any new work part take get place made live where after back little only round man year came
show every good me give our under name very through just form sentence great think say help low line differ
turn cause much mean before move right boy old too same tell does set three want air well also play small
end put home read hand port large spell add even land here must big high such follow act why ask men change
went light kind off need house picture try us again animal point mother world near build self earth father
head stand own page should country found answer school grow study still learn plant cover food sun four
between state keep eye never last let thought city tree cross farm hard start might story saw far sea draw
left late run while press close night real life few north open seem together next white children begin got
walk example ease paper group always music those both mark often letter until mile river car feet care
second book carry took science eat room friend began idea fish mountain stop once base hear horse cut sure
watch color face wood main enough plain girl usual young ready above ever red list though feel talk bird
soon body dog family direct pose leave song measure door product black short class wind question happen
complete ship area half rock order fire south problem piece told knew pass since top whole king space heard
best hour better true during hundred five remember step early hold west ground interest reach fast verb sing
listen six table travel less morning ten simple several vowel toward war lay against pattern slow center
love person money serve appear road map rain rule govern pull cold notice voice unit power town fine certain
fly fall lead cry dark machine note wait plan figure star box noun field rest correct able pound done beauty
drive stood contain front teach week final gave green quick develop ocean warm free minute strong special
mind behind clear tail produce fact street inch multiply nothing course stay wheel full force blue object
decide surface deep moon island foot system busy test record boat common gold possible plane age dry wonder
laugh thousand ago ran check game shape yes miss brought heat snow bed bring sit perhaps fill east weight
language among python code poem essay email joke weather capital france paris london german english
translate summarize explain history president computer model phone internet recipe cake movie doctor cat
coffee football quantum physics chemistry biology economy market stock price bitcoin robot artificial
intelligence
"""

_WORDS = tuple(_WORD_TEXT.split())


_TALK = (
    "hi", "hello", "hey", "hello there", "hi there!", "good morning", "good evening", "how are you?",
    "who are you?", "who are you", "what are you?", "what can you do?", "what is your name?",
    "what's your name", "help", "help me", "help me please", "test", "ping", "thanks", "thank you",
    "thank you!", "bye", "goodbye", "ok", "yes", "no", "why?", "are you a robot?", "are you chatgpt?",
    "which model are you?", "introduce yourself", "tell me about yourself",
    "what is the meaning of life?", "tell me a joke", "write a poem", "tell me a story",
    "what time is it?", "what is the capital of france?", "write a python function",
    "why is the sky blue?", "explain quantum physics", "bonjour", "salut, ça va ?", "hallo",
    "hola, ¿qué tal?", "ciao",
    "你好", "你是谁？", "こんにちは", "привет", "🙂", "👋", "", "?", "...", "what?", "lol",
    "say something", "count to ten", "the quick brown fox jumps over the lazy dog", "once upon a time",
    "summarise this text", "translate this into german", "how does a transformer work?",
)  # fmt: skip

_REFUSALS = (
    "I am pocket, a tiny demo model. I can add two numbers, follow a chain mod 11, or follow a ball "
    "under cups.",
    "I am pocket, a tiny demo model: I only know sums, chains mod 11 and the cups game. "
    "Try: What is 12 + 345?",
    "I am only pocket, a tiny demo model, and cannot answer that. Try: chain 7 +4 *3 -5 mod 11",
    "I am only pocket, a tiny demo model, and cannot answer that. Try: ball 3; swaps 13 25 14",
)

_SYSTEM = (
    "You are a helpful assistant.", "You are pocket.", "Be brief.", "Answer briefly.",
    "You are a math tutor.", "Think step by step.", "You are a pirate.", "Answer in one word.",
    "Be kind and honest.", "You are a tiny model.",
)  # fmt: skip


def refusal(rng: random.Random) -> str:
    """Draw an honest answer that says what the model is."""
    return rng.choice(_REFUSALS)


def system_prompt(rng: random.Random) -> str:
    """Draw a system prompt, sensible or not."""
    return rng.choice(_SYSTEM) if rng.random() < 0.5 else _sentence(rng, 12)


def off_topic_request(rng: random.Random) -> str:
    """Draw a request that is no sum, chain or cups."""
    draw = rng.random()
    if draw < 0.35:
        text = rng.choice(_TALK)
        return text.capitalize() if rng.random() < 0.4 else text
    if draw < 0.65:
        return _sentence(rng, 14)
    if draw < 0.8:
        return rng.choice(_ARITHMETIC)(rng)
    if draw < 0.9:
        return "".join(
            rng.choice("abcdefghijklmnopqrstuvwxyz     ,.?!") for _ in range(rng.randint(1, 40))
        ).strip()
    return f"{rng.choice(_QUESTIONS)} {_sentence(rng, 8)}"


_QUESTIONS = (
    "what is",
    "who is",
    "where is",
    "why",
    "how do I",
    "can you",
    "please",
    "tell me",
    "write",
    "what about",
)

_ARITHMETIC = (
    lambda rng: f"{rng.randint(0, 999)} - {rng.randint(0, 999)}",
    lambda rng: f"{rng.randint(0, 999)} * {rng.randint(0, 99)}",
    lambda rng: f"what is {rng.randint(0, 999)} / {rng.randint(1, 99)}?",
    lambda rng: f"what is {rng.randint(0, 99)} times {rng.randint(0, 99)}?",
    lambda rng: f"{rng.randint(0, 99)} + {rng.randint(0, 99)} + {rng.randint(0, 99)}",
    lambda rng: f"square root of {rng.randint(0, 9999)}",
    lambda rng: str(rng.randint(0, 99999)),
    lambda rng: f"{rng.randint(10**7, 10**10)} + {rng.randint(0, 10**10)}",
    lambda rng: f"I have {rng.randint(2, 99)} {rng.choice(_WORDS)} and {rng.randint(2, 99)} more",
)


def _sentence(rng: random.Random, most: int) -> str:
    words = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, most)))
    return rng.choice((words, words.capitalize() + rng.choice(".?!"), words + rng.choice((".", "?", ""))))
