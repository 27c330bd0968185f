"""Random journals, and what beancount makes of them: N.beancount beside N.json, as ledger_balances.py prints it.

    ledger_journals.py FOLDER SEED COUNT

Postings leave out what they can, lots are bought and sold by every method, accounts are padded. Most of
it breaks some rule. A journal that makes beancount itself fail is left out.
"""

import contextlib
import io
import json
import random
import sys
from pathlib import Path

import ledger_balances

METHODS = ["FIFO", "LIFO", "HIFO", "NONE", "STRICT", "STRICT_WITH_SIZE"]
STOCKS = ["Assets:One", "Assets:Two", "Assets:Three"]
OTHERS = ["Assets:Cash", "Assets:Cash:Box", "Income:Gains", "Expenses:Fees"]


def options(rng) -> list:
    lines = [
        (0.3, f'option "booking_method" "{rng.choice(METHODS)}"'),
        (0.3, f'option "inferred_tolerance_default" "*:{rng.choice(["0.005", "0.5", "0.00015"])}"'),
        (0.2, 'option "infer_tolerance_from_cost" "TRUE"'),
        (0.2, 'option "use_precise_interpolation" "TRUE"'),
        (0.2, f'option "tolerance_multiplier" "{rng.choice(["0.6", "1.2", "0"])}"'),
    ]
    return [line for share, line in lines if rng.random() < share]


def number(rng) -> str:
    kinds = [
        f"{rng.randint(1, 20)}",
        f"{rng.uniform(0.5, 50):.2f}",
        f"{rng.uniform(0.5, 20):.3f}",
        f"({rng.randint(1, 20)}/{rng.randint(1, 7)})",
    ]
    return rng.choice(kinds)


def cost(rng, is_sale: bool) -> str:
    currency = rng.choice(["USD", "USD", "USD", "EUR"])
    per = rng.choice(["10", "11", "12.50", "9.99"])
    day = f"2020-01-{rng.randint(1, 28):02}"
    if is_sale and rng.random() < 0.3:
        return "{}"
    kinds = {
        f"{{{per} {currency}}}": 50,
        f"{{{{{rng.choice(['100', '99.5', '120.00'])} {currency}}}}}": 8,
        f"{{{per} # {rng.choice(['1', '9.95'])} {currency}}}": 7,
        f"{{{per} {currency}, {day}}}": 7,
        f'{{{per} {currency}, "{rng.choice("ab")}"}}': 8,
        f"{{{currency}}}": 5,
        f"{{{day}}}": 5,
        '{"a"}': 3,
        f"{{# 5 {currency}}}": 2,
        "{{}}": 2,
        f"{{{per} # {currency}}}": 3,
    }
    return rng.choices(list(kinds), list(kinds.values()))[0]


def price(rng) -> str:
    kinds = {
        "": 60,
        f" @ {number(rng)} {rng.choice(['USD', 'USD', 'EUR'])}": 20,
        f" @@ {number(rng)} USD": 10,
        " @ USD": 3,
        " @": 2,
        f" @ {number(rng)}": 5,
    }
    return rng.choices(list(kinds), list(kinds.values()))[0]


def transaction(rng, day: str) -> list:
    lines = [f'{day} {rng.choice("*!")} "Random"']
    for _ in range(rng.randint(1, 3)):
        is_sale = rng.random() < 0.45
        units = "" if rng.random() < 0.08 else ("-" if is_sale else "") + number(rng)
        currency = rng.choice(["AAA", "AAA", "BBB"]) if rng.random() < 0.95 else ""
        lot = cost(rng, is_sale) if rng.random() < 0.8 else ""
        lines.append(f"  {rng.choice(STOCKS)}  {units} {currency} {lot}{price(rng)}")
    for _ in range(rng.randint(0, 2)):
        units = "" if rng.random() < 0.1 else ("-" if rng.random() < 0.6 else "") + number(rng)
        currency = rng.choice(["USD", "USD", "USD", "EUR", ""])
        at = price(rng) if rng.random() < 0.2 else ""
        lines.append(f"  {rng.choice(OTHERS)}  {units} {currency}{at}")
    if rng.random() < 0.8:
        lines.append(f"  {rng.choice(OTHERS)}")
    if rng.random() < 0.05:
        lines.append(f"  {rng.choice(OTHERS)}")
    return lines


def journal(rng) -> str:
    accounts = STOCKS + OTHERS
    lines = options(rng)
    for account in accounts:
        method = rng.choice([""] + [f' "{method}"' for method in METHODS])
        if rng.random() < 0.97:
            lines.append(f"2020-01-01 open {account}{method}")
    for _ in range(rng.randint(10, 40)):
        day = f"2020-{rng.randint(1, 3):02}-{rng.randint(1, 28):02}"
        kind = rng.random()
        if kind < 0.75:
            lines += transaction(rng, day)
        elif kind < 0.9:
            tolerance = rng.choice(["", " ~ 0.5", " ~ 10"])
            currency = rng.choice(["USD", "AAA", "EUR"])
            lines.append(f"{day} balance {rng.choice(accounts)}  {number(rng)}{tolerance} {currency}")
        else:
            lines.append(f"{day} pad {rng.choice(accounts)} {rng.choice(OTHERS)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for index in range(count):
        file = folder / f"{index}.beancount"
        file.write_text(journal(random.Random(seed + index)))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                judged = ledger_balances.judge(str(file), [])
        except Exception:
            file.rename(file.with_suffix(".refused"))
            continue
        file.with_suffix(".json").write_text(json.dumps(judged))


if __name__ == "__main__":
    main()
