"""Reads with DuckDB what Mente writes as Apache Parquet, and asks it what the server is asked too.

usage: parquet.py URL FILE-OF-EVENTS

The file holds `SELECT position, type, stream, appended_ms, data FROM events` as `mente sql --parquet` wrote it.
"""

import json
import sys

import duckdb
import requests

PARQUET = "application/vnd.apache.parquet"


def asked(url, sql, **headers):
    answer = requests.post(url + "/sql", json={"sql": sql, **({} if headers else {"limit": 10000})}, headers=headers, timeout=60)
    if answer.status_code != 200:
        raise SystemExit(f"{sql}: {answer.status_code} {answer.text}")
    return answer.content


def rows_of(url, sql):
    return [tuple(row) for row in json.loads(asked(url, sql))["rows"]]


def same(what, found, expected):
    if found != expected:
        raise SystemExit(f"{what}: {found[:3]} … is not {expected[:3]} …")


def main(url, file):
    columns = "position, type, stream, appended_ms, data"
    same("the file", duckdb.sql(f"SELECT * FROM '{file}'").fetchall(), rows_of(url, f"SELECT {columns} FROM events"))
    types = [str(kind) for kind in duckdb.sql(f"SELECT * FROM '{file}'").types]
    same("types", types, ["BIGINT", "VARCHAR", "VARCHAR", "BIGINT", "VARCHAR"])
    grouped = "SELECT type, count(*), max(position) FROM {} GROUP BY type ORDER BY type"
    same("groups", duckdb.sql(grouped.format(f"'{file}'")).fetchall(), rows_of(url, grouped.format("events")))
    summed = "SELECT sum(CAST(data ->> '$.n' AS BIGINT)) FROM {}"
    same("data", duckdb.sql(summed.format(f"'{file}'")).fetchall(), rows_of(url, summed.format("events")))

    # Every type, with nulls and without rows.
    mixed = """SELECT position AS whole, iif(position % 2, position, position + 0.5) AS real, NULL AS never,
        iif(position % 3, NULL, type) AS text, CAST(type AS BLOB) AS raw FROM events ORDER BY position"""
    for name, sql in [("mixed", mixed), ("empty", "SELECT position, type FROM events WHERE position < 0")]:
        with open(f"{file}.{name}.parquet", "wb") as out:
            out.write(asked(url, sql, accept=PARQUET))
    found = duckdb.sql(f"SELECT * FROM '{file}.mixed.parquet'")
    same("types", [str(kind) for kind in found.types], ["BIGINT", "DOUBLE", "VARCHAR", "VARCHAR", "BLOB"])
    events = rows_of(url, "SELECT position, type FROM events ORDER BY position")
    real = lambda p: float(p) if p % 2 else p + 0.5
    expected = [(p, real(p), None, None if p % 3 else t, t.encode()) for p, t in events]
    same("mixed", found.fetchall(), expected)
    same("empty", duckdb.sql(f"SELECT * FROM '{file}.empty.parquet'").fetchall(), [])
    refused = requests.post(
        url + "/sql",
        json={"sql": "SELECT iif(position % 2, position, type) AS odd FROM events"},
        headers={"accept": PARQUET},
        timeout=60,
    )
    if refused.status_code != 400 or "odd" not in refused.text:
        raise SystemExit(f"a column of two kinds: {refused.status_code} {refused.text}")
    print(f"{len(events)} events ok")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
