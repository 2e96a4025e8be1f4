"""How far an estimate of tokens by UTF-8 bytes is off, beside two real tokenizers of OpenAI's, by kind of text.

Run it with `.venv/bin/python benchmarks/estimate.py`. The encodings are those that litellm ships; nothing is fetched.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import litellm

from farthing.estimating import BYTES_PER_TOKEN, prompt_bytes, text_bytes

ROOT = Path(__file__).parents[1]
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")

import tiktoken  # noqa: E402 - it reads the variable when an encoding is loaded

SENTENCES = {
    "German": "Die Rechnung ist höher als erwartet, weil der Nachtlauf jede Anfrage zweimal stellte. ",
    "French": "La facture est plus élevée que prévu, car chaque requête de la nuit a été envoyée deux fois. ",
    "Russian": "Счёт за прошлый месяц выше, чем ожидалось, потому что ночной запуск отправлял каждый запрос дважды. ",
    "Arabic": "فاتورة الشهر الماضي أعلى من المتوقع لأن التشغيل الليلي أرسل كل طلب مرتين. ",
    "Hindi": "पिछले महीने का बिल उम्मीद से ज़्यादा है क्योंकि रात के काम ने हर अनुरोध दो बार भेजा। ",
    "Chinese": "上个月的账单比预期的高。夜间任务把每个请求都发送了两次。",
    "Japanese": "先月の請求額は予想より高く、夜間の処理がすべての要求を二度送ったためです。",
}


def samples() -> dict[str, str]:
    """Give texts of several kinds: this repository's own, and a sentence in other languages, repeated."""
    found = {
        "English prose": (ROOT / "README.md").read_text(encoding="utf-8"),
        "Python": (ROOT / "packages/core/src/farthing/meter.py").read_text(encoding="utf-8"),
        "JSON": json.dumps(json.loads(json.dumps([{"id": n, "tenant": "acme", "amount": n / 7} for n in range(300)]))),
    }
    return found | {name: text * 20 for name, text in SENTENCES.items()}


def main() -> None:
    """Print the error of the estimate for each kind of text, and what counting costs."""
    encodings = {name: tiktoken.get_encoding(name) for name in ("o200k_base", "cl100k_base")}
    print(f"{'text':<15}{'bytes':>8}{'estimate':>10}" + "".join(f"{name:>13}{'off by':>8}" for name in encodings))
    for kind, text in samples().items():
        estimate = -(-text_bytes(text) // BYTES_PER_TOKEN)
        line = f"{kind:<15}{text_bytes(text):>8}{estimate:>10}"
        for encoding in encodings.values():
            true = len(encoding.encode(text))
            line += f"{true:>13}{estimate / true - 1:>+8.0%}"
        print(line)
    text = samples()["English prose"]
    messages = [{"role": "user", "content": text}]
    rounds = 200
    began = time.perf_counter()
    for _ in range(rounds):
        prompt_bytes(messages)
    counted = (time.perf_counter() - began) / rounds
    began = time.perf_counter()
    encodings["o200k_base"].encode(text)
    tokenized = time.perf_counter() - began
    print(f"\n{len(text):,} letters: counted in {counted * 1e6:,.0f} us, tokenized in {tokenized * 1e6:,.0f} us")


if __name__ == "__main__":
    sys.exit(main())
