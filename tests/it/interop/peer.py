"""The other program: reads and writes the same store with redis-py, sqlite3 or one of the memcached clients.

peer.py BACKEND ADDRESS PREFIX CODEC read   checks what larder wrote
peer.py BACKEND ADDRESS PREFIX CODEC write  leaves values for larder
peer.py BACKEND ADDRESS PREFIX CODEC find   finds a thousand keys on several servers
peer.py BACKEND ADDRESS PREFIX CODEC probe  reads what an attacker would store, under many prefixes
"""

import json
import pickle
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


class PymemcacheSerde(Memcached):
    """With the serde that Django uses: it unpickles what the client flags call a pickle."""

    def __init__(self, address):
        from pymemcache import serde
        from pymemcache.client.base import Client

        host, port = address.rsplit(":", 1)
        self.store = Client((host, int(port)), serde=serde.pickle_serde)


class PythonMemcached:
    def __init__(self, address):
        import memcache

        self.store = memcache.Client([address])

    def get(self, key):
        return self.store.get(key)

    def set(self, key, value):
        assert self.store.set(key, value, time=60)

    def left(self, key):
        return None

    def incr(self, key):
        return self.store.incr(key, 1)


class Pylibmc(PythonMemcached):
    def __init__(self, address):
        import pylibmc

        self.store = pylibmc.Client([address])


class PylibmcKetama(PythonMemcached):
    """Over several servers, by libmemcached's weighted ketama."""

    def __init__(self, addresses):
        import pylibmc

        self.store = pylibmc.Client(addresses.split(","), behaviors={"ketama_weighted": True})


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
            assert isinstance(found, bytes), f"{name} is read as a {type(found).__name__}"
            found = found.decode()
        assert found == expected, f"{name}: {found!r} instead of {expected!r}"
    left = store.left(prefix + "text")
    assert left is None or 200 < left <= 300, f"{left} s left of 300"
    assert store.incr(prefix + "number") == 42


def write(store, prefix, codec):
    for name, value in values(codec).items():
        store.set(prefix + name, value.encode() if isinstance(value, str) else value)
    if isinstance(store, (PythonMemcached, PymemcacheSerde)):
        # With the flags that these clients give to their own types.
        store.set(prefix + "typed", json.dumps(TEXT) if codec == "json" else TEXT)
        store.set(prefix + "count", 41)


def probe(store, prefix, codec):
    """No value is unpickled, whatever flags it bears, and all values are what was stored where the codec is a public one."""
    for n in range(PROBES):
        try:
            found = store.get(f"{prefix}{n}:text")
        except ValueError as error:
            # python-memcached does not read flags that it does not know.
            assert codec == "msgpack", error
            continue
        assert found is not None, f"{n} is missing"
        if codec != "msgpack":
            found = json.loads(found) if codec == "json" else found.decode()
            assert found == PICKLE, f"{n}: {found!r}"
    assert not unpickled, f"{len(unpickled)} of {PROBES} values were unpickled"


def find(store, prefix, codec):
    """Each of a thousand keys is on the server where this client looks for it."""
    missing = [n for n in range(1000) if store.get(f"{prefix}key-{n}") != str(n).encode()]
    assert not missing, f"{len(missing)} of 1000 keys are elsewhere"


PROBES = 400
PICKLE = "cbuiltins\nprint\n(S'a cached text was run'\ntR."
unpickled = []


def watch_pickle():
    """Notes each attempt to unpickle; before the clients are imported, for they keep what they find."""

    class Watched(pickle.Unpickler):
        def load(self):
            unpickled.append(self)
            raise pickle.UnpicklingError("watched")

    def loads(data, **options):
        unpickled.append(data)
        raise pickle.UnpicklingError("watched")

    pickle.Unpickler, pickle.loads = Watched, loads


BACKENDS = {
    "redis": Redis,
    "memcached": Memcached,
    "pymemcache-serde": PymemcacheSerde,
    "python-memcached": PythonMemcached,
    "pylibmc": Pylibmc,
    "pylibmc-ketama": PylibmcKetama,
    "sqlite": Sqlite,
}

if __name__ == "__main__":
    backend, address, prefix, codec, work = sys.argv[1:]
    watch_pickle()
    store = BACKENDS[backend](address)
    {"read": read, "write": write, "probe": probe, "find": find}[work](store, prefix, codec)
    print(f"python {work}s {codec} on {backend}: ok")
