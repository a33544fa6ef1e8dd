"""The other program: reads and writes the same store with redis-py, pymemcache or sqlite3.

peer.py BACKEND ADDRESS PREFIX CODEC read   checks what larder wrote
peer.py BACKEND ADDRESS PREFIX CODEC write  leaves values for larder
"""

import json
import sqlite3
import sys
import time

TEXT = "grüße, 世界\r\nget x"
BYTES = bytes(range(256))
USER = {"name": "Ada", "age": 36, "tags": ["a", "b"]}


class Redis:
    def __init__(self, address):
        import redis

        host, port = address.rsplit(":", 1)
        self.store = redis.Redis(host, int(port))

    def get(self, key):
        return self.store.get(key)

    def set(self, key, value):
        self.store.set(key, value, ex=60)

    def left(self, key):
        return self.store.pttl(key) / 1000

    def incr(self, key):
        return self.store.incr(key)


class Memcached:
    def __init__(self, address):
        from pymemcache.client.base import Client

        host, port = address.rsplit(":", 1)
        self.store = Client((host, int(port)))

    def get(self, key):
        return self.store.get(key)

    def set(self, key, value):
        assert self.store.set(key, value, expire=60, noreply=False)

    def left(self, key):
        return None

    def incr(self, key):
        return self.store.incr(key, 1)


class Sqlite:
    def __init__(self, address):
        self.store = sqlite3.connect(address, timeout=10, isolation_level=None)

    def get(self, key):
        row = self.store.execute("SELECT value FROM larder_cache WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def set(self, key, value):
        ends = int((time.time() + 60) * 1000)
        self.store.execute("REPLACE INTO larder_cache (key, value, expires_at) VALUES (?, ?, ?)", (key, value, ends))

    def left(self, key):
        ends = self.store.execute("SELECT expires_at FROM larder_cache WHERE key = ?", (key,)).fetchone()[0]
        return ends / 1000 - time.time()

    def incr(self, key):
        sum = int(self.get(key)) + 1
        self.set(key, str(sum).encode())
        return sum


def values(codec):
    if codec == "json":
        return {"text": json.dumps(TEXT), "user": json.dumps(USER), "number": "41"}
    return {"text": TEXT, "bytes": BYTES, "number": "41"}


def read(store, prefix, codec):
    for name, expected in values(codec).items():
        found = store.get(prefix + name)
        assert found is not None, f"{name} is missing"
        if codec == "json":
            found, expected = json.loads(found), json.loads(expected)
        elif isinstance(expected, str):
            found = found.decode()
        assert found == expected, f"{name}: {found!r} instead of {expected!r}"
    left = store.left(prefix + "text")
    assert left is None or 200 < left <= 300, f"{left} s left of 300"
    assert store.incr(prefix + "number") == 42


def write(store, prefix, codec):
    for name, value in values(codec).items():
        store.set(prefix + name, value.encode() if isinstance(value, str) else value)


if __name__ == "__main__":
    backend, address, prefix, codec, work = sys.argv[1:]
    store = {"redis": Redis, "memcached": Memcached, "sqlite": Sqlite}[backend](address)
    {"read": read, "write": write}[work](store, prefix, codec)
    print(f"python {work}s {codec} on {backend}: ok")
