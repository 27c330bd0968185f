"""Balances of a Beancount journal by beancount itself: the judge of `mente demo ledger`.

    ledger_balances.py FILE [DATE ...]

Prints {"errors": [[LINE, MESSAGE], ...], "balances": {DATE: {ACCOUNT: {CURRENCY: NUMBER}}}}: at the
end of each of those days, or of every day on which something happens. Units are summed over lots,
without rounding; what is zero is left out. Plugins run as the file says.
"""

import json
import sys
from decimal import Context, Decimal

from beancount import loader
from beancount.core import data

# Sums of balances are exact; beancount's own arithmetic has 28 digits.
EXACT = Context(prec=100)


def text(number: Decimal) -> str:
    return format(number, "f")


def shown(balances: dict) -> dict:
    accounts = {}
    for (account, currency), number in balances.items():
        if number != 0:
            accounts.setdefault(account, {})[currency] = text(number)
    return accounts


def by_date(entries, dates) -> dict:
    balances, result = {}, {}
    wanted = sorted(dates)
    # Entries are in order; what pads insert has the date of its pad.
    for entry in entries:
        while wanted and wanted[0] < entry.date.isoformat():
            result[wanted.pop(0)] = shown(balances)
        if isinstance(entry, data.Transaction):
            for posting in entry.postings:
                key = (posting.account, posting.units.currency)
                before = balances.get(key, Decimal())
                balances[key] = EXACT.add(before, posting.units.number)
    for date in wanted:
        result[date] = shown(balances)
    return result


def judge(file: str, dates: list) -> dict:
    entries, errors, _ = loader.load_file(file)
    dates = dates or {entry.date.isoformat() for entry in entries}
    told = [[error.source.get("lineno", 0), error.message] for error in errors]
    return {"errors": told, "balances": by_date(entries, dates)}


if __name__ == "__main__":
    json.dump(judge(sys.argv[1], sys.argv[2:]), sys.stdout)
